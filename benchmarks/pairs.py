"""How far the judges of two concepts in one picture can be believed: on hand-drawn pages of the very pairs,
as they are and as the base's autoencoder gives them back.

The pairs and prompts are those of the paper's suite; a drawn picture can hardly be recognised more often.

    python -m benchmarks.pairs [--pages 8] [--prompts 3]
"""

from __future__ import annotations

import argparse
from itertools import product
from random import Random

import torch

from perfusion_registry.base import describe_base, load_base
from perfusion_registry.evaluate.budget import spread
from perfusion_registry.evaluate.plan import filled
from perfusion_registry.evaluate.suite import find_suite, read_suite
from perfusion_registry.storybook.cast import CAST
from perfusion_registry.storybook.judgement import (
    Portrayed,
    identified,
    look_alikes,
    own_looks,
    portraits,
    shown,
)
from perfusion_registry.storybook.reading import asked
from perfusion_registry.storybook.recogniser import Recogniser
from perfusion_registry.storybook.world import Page, draw_page, paint


def main() -> None:
    """Judge hand-drawn pages of every pair, and print the shares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", type=int, default=8, help="of each pair and prompt")
    parser.add_argument("--prompts", type=int, default=3, help="of each group of prompts, at most")
    options = parser.parse_args()
    base = load_base(describe_base("storybook"))
    recogniser = Recogniser.load(base.description.folder / "recogniser.safetensors")
    subjects = {name: Portrayed(one.category, own_looks(recogniser, one)) for name, one in CAST.items()}
    rows: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for group in (group for group in read_suite(find_suite("paper")).prompts if group.pairs):
        for names, template in product(group.pairs, spread(group.templates, options.prompts)):
            pair = tuple(CAST[name] for name in names)
            question = asked(filled(template, [one.category for one in pair]))
            told = question.relation, question.scene, None
            rng = Random(f"{names} {template}")
            pages = [Page(pair, *told, rng.getrandbits(32)) for _ in range(options.pages)]
            images = paint([draw_page(page) for page in pages]).images
            alike = [[(*pair[:k], o, *pair[k + 1 :]) for o in look_alikes(pair[k])] for k in range(2)]
            known = [
                portraits(recogniser, base, one.category, others, *told)
                for one, others in zip(pair, alike, strict=True)
            ]
            for shares, seen in zip(rows, (images, base.reconstructed(images)), strict=True):
                by_colour = shown(recogniser.recognise(seen), question, [subjects[name] for name in names])
                colours = torch.tensor([row["both"] for row in by_colour])
                first, second = (
                    identified(recogniser.describe(seen, one.category), portrayed).float()
                    for one, portrayed in zip(pair, known, strict=True)
                )
                shares.append(torch.stack([colours, first, second, first * second]).mean(1))
            print(f"{' and '.join(names):18} {template:40} {_told(rows[0][-1])}", flush=True)
            print(f"{'':18} {'through the autoencoder':40} {_told(rows[1][-1])}", flush=True)
    print(f"{'all':59} {_told(torch.stack(rows[0]).mean(0))}")
    print(f"{'all, through the autoencoder':59} {_told(torch.stack(rows[1]).mean(0))}")


def _told(shares: torch.Tensor) -> str:
    names = ("main colours", "first", "second", "both")
    return "   ".join(f"{name} {share:4.0%}" for name, share in zip(names, shares.tolist(), strict=True))


if __name__ == "__main__":
    main()
