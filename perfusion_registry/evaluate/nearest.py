"""The word that CLIP finds nearest to a concept's images, as a supercategory (the residuals paper's Table
4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.base.bounds import BaseBounds
from perfusion_registry.build.nouns import wordnet_nouns
from perfusion_registry.evaluate.sources import Source

if TYPE_CHECKING:
    import torch

    from perfusion_registry.base import BaseDescription

NO_NOUNS = (
    "there are no nouns to choose a supercategory from: WordNet is not installed, and perf does not "
    "download it (python -m nltk.downloader wordnet)"
)


def with_nearest(
    sources: Mapping[str, Source], base: BaseDescription, clip: Path | None, device: torch.device
) -> dict[str, Source]:
    """The sources with the noun nearest to the images of each: of those that the base draws, where it
    draws few, else of WordNet's; as they were where that is not on this machine. clip: a folder; None for
    the base's own."""
    nouns = list(BaseBounds.of(base).things) or wordnet_nouns()
    if not nouns:
        return dict(sources)
    import torch

    from perfusion_registry.base import Scorer, load_tokenizer
    from perfusion_registry.build.framing import square
    from perfusion_registry.build.images import load_image
    from perfusion_registry.build.supercategory import suggest

    scorer = Scorer.of(base, device) if clip is None else Scorer.load(clip, device)
    tokenizer, found = load_tokenizer(base), {}
    size = (scorer.preprocessing.size, scorer.preprocessing.size)
    for name, source in sources.items():
        pixels = torch.stack([square(load_image(image).pixels, size) for image in source.images])
        ranked = suggest(scorer, tokenizer, pixels, nouns, several_tokens=True)
        found[name] = replace(source, nearest=ranked[0].word)
    return found
