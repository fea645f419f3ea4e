"""Is it the same individual? A blind test among look-alikes, for concepts that the embedded base never saw.

For each individual of the cast: build the concept, draw it in places that its references do not show, and
ask which of 20 individuals of its category (itself and 19 others) the pictures look like, each of them drawn
by hand in the same place. Chance is 5 %. The same is asked of the supercategory's
pictures, and of pages drawn by hand, which is the judge's own limit.

    python -m benchmarks.identify --out identify.json
"""

from __future__ import annotations

import argparse
import io
import json
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from perfusion_registry.artifact import Artifact
from perfusion_registry.base import Base, describe_base, load_base
from perfusion_registry.build import ConceptSources, build_concept, load_covariance
from perfusion_registry.compose import Concept, compose, parse_prompt
from perfusion_registry.methods.perfusion.options import RenderOptions, TrainOptions
from perfusion_registry.render import native_values, render, resolve_request
from perfusion_registry.storybook.cast import CAST, reference_images
from perfusion_registry.storybook.judgement import identified, look_alikes, portraits
from perfusion_registry.storybook.recogniser import Recogniser
from perfusion_registry.storybook.world import Page, draw_page, paint

PLACES = ("in the snow", "in outer space", "at night", "by the fire")
"""None of them is among the places of the references."""


def sources_of(name: str) -> ConceptSources:
    """The reference pictures of one of the cast, as files in PNG, and its word."""
    images = []
    for picture in reference_images(CAST[name]):
        file = io.BytesIO()
        pixels = (picture * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        Image.fromarray(pixels).save(file, "PNG")
        images.append(file.getvalue())
    return ConceptSources(name, "1.0.0", CAST[name].category, tuple(images))


def built(base: Base, name: str, **options: Any) -> Artifact:
    """The concept of one of the cast, by the options of the base's card and the given ones."""
    card = base.description.card
    declared = {k: tuple(v) if isinstance(v, list) else v for k, v in card.train.items()}
    train = TrainOptions(**(declared | options))
    defaults = {k: v for k, v in card.render.items() if k in RenderOptions.model_fields}
    covariance = load_covariance(base.description.folder / card.covariance)
    return build_concept(
        base, covariance, sources_of(name), train, RenderOptions(**defaults), digest="0" * 64
    )


def drawn(base: Base, prompt: str, artifact: Artifact | None, count: int) -> Tensor:
    """Pictures (count, 3, h, w) of a prompt."""
    name = artifact.card.name if artifact else ""
    concepts = {name: Concept(artifact, "0" * 64)} if artifact else {}
    composition = compose(parse_prompt(prompt), concepts, base)
    given = {"seeds": tuple(range(count)), "batch": count}
    request = resolve_request(given, base.description.card.render, native=native_values(base))
    artifacts = {name: artifact} if artifact else {}
    pictures = [r.image for r in render(base, composition, request, artifacts)]
    return (
        torch.stack([torch.frombuffer(bytearray(p.tobytes()), dtype=torch.uint8) for p in pictures])
        .view(count, request.height, request.width, 3)
        .permute(0, 3, 1, 2)
        .float()
        / 255
    )


def main() -> None:
    """Run the test and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--names", nargs="*", default=list(CAST))
    parser.add_argument("--seeds", type=int, default=4, help="pictures for each place")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    base = load_base(describe_base("storybook"))
    recogniser = Recogniser.load(base.description.folder / "recogniser.safetensors")
    rows = []
    for name in options.names:
        one = CAST[name]
        candidates = [(other,) for other in look_alikes(one)]
        known = [portraits(recogniser, base, one.category, candidates, None, place, None) for place in PLACES]
        start = time.monotonic()
        artifact = built(base, name)
        seconds = time.monotonic() - start
        concept = [drawn(base, f"a {name}* {p}", artifact, options.seeds) for p in PLACES]
        plain = [drawn(base, f"a {one.category} {p}", None, options.seeds) for p in PLACES]
        limit = [
            paint([draw_page(Page((one,), None, p, None, seed)) for seed in range(options.seeds)]).images
            for p in PLACES
        ]

        def share(pictures: list[Tensor], kind: str = one.category, known: list[Tensor] = known) -> float:
            seen = [recogniser.describe(p, kind) for p in pictures]
            told = [identified(p, k) for p, k in zip(seen, known, strict=True)]
            return float(torch.cat(told).float().mean())

        row = {
            "concept": name,
            "identified": share(concept),
            "supercategory": share(plain),
            "drawn": share(limit),
            "build_seconds": round(seconds, 1),
        }
        rows.append(row)
        print(
            f"{name:8} identified {row['identified']:6.1%}   supercategory {row['supercategory']:6.1%}   "
            f"drawn by hand {row['drawn']:6.1%}   built in {row['build_seconds']} s",
            flush=True,
        )
    for key in ("identified", "supercategory", "drawn"):
        print(f"{key:14} {sum(row[key] for row in rows) / len(rows):6.1%}")
    if options.out:
        options.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
