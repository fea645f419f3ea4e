"""Encoded pages on disk: a folder for each shard, arrays that are mapped and not read.

A training takes shards in the order of their numbers and more of them the more pages it has seen, by a rule
that depends on nothing else; so it can be resumed exactly while another process still draws and encodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SHARD = 1000
"""Pages of a shard."""


@dataclass(frozen=True)
class Admission:
    """How many shards a training draws its pages from: `first` at the beginning, one more for every
    `SHARD * uses` pages seen, `most` at last. since: the pages of an earlier world that it had
    seen before."""

    first: int = 60
    uses: float = 3.0
    most: int = 500
    since: int = 0

    def shards(self, pages: int) -> int:
        """The number of shards after `pages` pages."""
        return min(self.most, self.first + math.floor(max(0, pages - self.since) / (SHARD * self.uses)))


@dataclass(frozen=True)
class Encoded:
    """A shard: z (n, c, 16, 16) fp16, of unit deviation; slots (n, 6, 16, 16) uint8, what is visible of each
    slot; ids (n, 3, 48) int16, three wordings; ground and kind (n, 3, 48) int8, the slot of each token or -1
    and the kind of its mention."""

    z: NDArray[np.float16]
    slots: NDArray[np.uint8]
    ids: NDArray[np.int16]
    ground: NDArray[np.int8]
    kind: NDArray[np.int8]


@dataclass(frozen=True)
class Batch:
    """Pages to train on: z (B, c, 16, 16) fp32; slots (B, 6, 16, 16) in 0..1; ids, ground, kind (B, 48)."""

    z: Tensor
    slots: Tensor
    ids: Tensor
    ground: Tensor
    kind: Tensor

    def to(self, device: str | torch.device) -> Batch:
        """The same on a device."""
        return Batch(**{name: value.to(device) for name, value in vars(self).items()})


@lru_cache(maxsize=2048)
def read_encoded(folder: Path) -> Encoded:
    """The shard in `folder`, mapped."""
    return Encoded(
        **{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in Encoded.__dataclass_fields__}
    )


def gathered(shards: Sequence[Encoded], rows: NDArray[np.int64], wordings: NDArray[np.int64]) -> Batch:
    """The pages of the given rows, counted through all shards, each in one of its wordings."""
    starts = np.cumsum([0, *(len(shard.z) for shard in shards)])
    where = np.searchsorted(starts, rows, side="right") - 1
    at = [(shards[s], r - starts[s], w) for s, r, w in zip(where, rows, wordings, strict=True)]
    return Batch(
        torch.from_numpy(np.stack([s.z[r] for s, r, _ in at])).float(),
        torch.from_numpy(np.stack([s.slots[r] for s, r, _ in at])).float() / 255,
        torch.from_numpy(np.stack([s.ids[r, w] for s, r, w in at])).long(),
        torch.from_numpy(np.stack([s.ground[r, w] for s, r, w in at])).long(),
        torch.from_numpy(np.stack([s.kind[r, w] for s, r, w in at])).long(),
    )


@dataclass(frozen=True)
class Supply:
    """The shards of a training. shard: gives the encoded shard of a number, and makes or awaits it if need
    be."""

    shard: Callable[[int], Encoded]
    admission: Admission

    def batch(self, size: int, pages: int, rng: np.random.Generator) -> Batch:
        """`size` pages by chance, of those that a training has after `pages` pages."""
        shards = [self.shard(number) for number in range(self.admission.shards(pages))]
        total = sum(len(shard.z) for shard in shards)
        return gathered(shards, rng.integers(0, total, size), rng.integers(0, shards[0].ids.shape[1], size))
