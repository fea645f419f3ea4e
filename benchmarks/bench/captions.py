"""What a covariance costs beside encoding its captions and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import torch

from benchmarks.bench.drawing import storybook
from benchmarks.bench.turns import Pair, Row
from perfusion_registry.base import Tokens
from perfusion_registry.build.estimation import count
from perfusion_registry.storybook.captions import caption
from perfusion_registry.storybook.world import Page

COUNT = 1_000
AT_ONCE = 256


def rows() -> list[Row]:
    """Encoding, e e^T summed exactly, and padding for every sixteenth caption."""
    return [Row(f"a covariance of {COUNT} captions", "encoding them", _counted)]


@contextmanager
def _counted() -> Iterator[Pair]:
    base, random = storybook(), Random(0)
    captions = [caption(Page.sample(random), random) for _ in range(COUNT)]

    def ours() -> None:
        count(base, captions)

    def beside() -> None:
        rows: list[Tokens] = sorted(base.tokenise_captions(captions), key=lambda row: row.length)
        with torch.inference_mode():
            for start in range(0, COUNT, AT_ONCE):
                base.encode(rows[start : start + AT_ONCE])

    yield ours, beside
