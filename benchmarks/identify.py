"""Is it the same individual? A blind test among look-alikes, for concepts that the embedded base never saw.

For each individual of the cast: build the concept, draw it in places that its references do not show, and
ask which of 20 individuals of its category (itself and 19 others) the pictures look like, each of them drawn
by hand in the same place. Chance is 5 %. The same is asked of the supercategory's
pictures, and of pages drawn by hand, which is the judge's own limit.

    python -m benchmarks.identify --out identify.json
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.concepts import built, drawn
from perfusion_registry.base import describe_base, load_base
from perfusion_registry.storybook.cast import CAST
from perfusion_registry.storybook.judgement import identified, look_alikes, portraits
from perfusion_registry.storybook.recogniser import Recogniser
from perfusion_registry.storybook.world import Page, draw_page, paint

PLACES = ("in the snow", "in outer space", "at night", "by the fire")
"""None of them is among the places of the references."""


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
