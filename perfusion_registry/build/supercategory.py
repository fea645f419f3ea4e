"""Supercategories for images: nouns ranked by how well "a photo of a NOUN" describes them to CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.prompts import TARGET_PROMPT
from perfusion_registry.reporter import Reporter, Silent

if TYPE_CHECKING:
    from perfusion_registry.base import Scorer

BATCH = 64
"""Texts read together."""


@dataclass(frozen=True)
class Suggestion:
    """A word that may be a supercategory.

    similarity: mean cosine of the images to its prompt. best_of: the images that no other word fits better.
    tokens: how many the base's tokenizer makes of it.
    """

    word: str
    similarity: float
    best_of: int
    tokens: int


def suggest(
    scorer: Scorer,
    tokenizer: Any,
    images: Tensor,
    words: Sequence[str],
    *,
    several_tokens: bool = False,
    reporter: Reporter | None = None,
) -> list[Suggestion]:
    """Rank `words` for images (N, 3, H, W) in 0..1, the most similar first; equals keep their order.

    tokenizer: the base's. Words of several tokens are left out unless `several_tokens`, since a concept is
    one token. Raises PerfError when none is left.
    """
    counts = [len(tokenizer(word, add_special_tokens=False).input_ids) for word in words]
    usable = [(word, n) for word, n in zip(words, counts, strict=True) if n == 1 or (several_tokens and n)]
    if not usable:
        raise PerfError(
            f"of the {len(words)} words given, none is a single word that this base knows"
            if words
            else "there are no words to choose from",
            hint="give plainer words with --words FILE, or see them all with --any",
        )
    with (reporter or Silent()).stage(f"Comparing {len(usable)} words", len(usable)) as stage:
        seen = scorer.image_features(images).cpu()  # (N, f)
        rows = []
        for start in range(0, len(usable), BATCH):
            texts = [TARGET_PROMPT.replace("{}", word) for word, _ in usable[start : start + BATCH]]
            rows.append(scorer.text_features(texts).cpu() @ seen.T)
            stage.advance(len(texts))
    alike = torch.cat(rows)  # (words, N)
    best = alike.argmax(0).bincount(minlength=len(usable)).tolist()
    suggestions = [
        Suggestion(word, mean, wins, tokens)
        for (word, tokens), mean, wins in zip(usable, alike.mean(1).tolist(), best, strict=True)
    ]
    return sorted(suggestions, key=lambda suggestion: -suggestion.similarity)
