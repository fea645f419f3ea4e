"""Drawn pages on disk: shards of a thousand, each a pure function of its number.

A killed run goes on with the shards that are missing. A few shards keep their pictures, for the networks that
learn from pictures; of all others only the latents stay (`encoding.py`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from perfusion_registry.errors import PerfError
from perfusion_registry.storybook2.captions import Caption, caption
from perfusion_registry.storybook2.grammar import WORLD_EPOCH, sample_page
from perfusion_registry.storybook2.training.attention import ATTRIBUTE, NOUN, PART
from perfusion_registry.storybook2.training.latents import SHARD
from perfusion_registry.storybook2.training.masks import averaged_down
from perfusion_registry.storybook2.training.work import move_into_place
from perfusion_registry.storybook2.world.page import Page

HELD_BACK = 100_000
"""Shards from this number on are for measuring only: their pages are of the held-out split."""
SLOTS = 6
WORDINGS = 3
GRID = 16
"""Cells of a latent along a side."""
FINE = 64
"""Cells of the masks that the segmenter learns from."""

_KINDS = {"noun": NOUN, "part": PART, "attribute": ATTRIBUTE}


@dataclass(frozen=True)
class Wording:
    """A caption: its text, and spans (start, end, slot, kind) of its words that stand for something on the
    page."""

    text: str
    spans: tuple[tuple[int, int, int, int], ...]


@dataclass(frozen=True)
class Drawing:
    """A shard: images (n, 256, 256, 3) uint8; masks (n, 6, 64, 64) uint8, what is visible of each slot;
    wordings. Both may be kept smaller, by the same factor."""

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    wordings: tuple[tuple[Wording, ...], ...]

    def slots(self) -> NDArray[np.uint8]:
        """The masks on the latent's grid (n, 6, 16, 16)."""
        return averaged_down(self.masks, self.masks.shape[-1] // GRID)


def page_of(shard: int, index: int) -> tuple[Page, Random]:
    """The page of this number, and the chance that its captions go on with; the same on every machine."""
    rng = Random(f"storybook2/{WORLD_EPOCH}/{shard}/{index}")
    return sample_page(rng, split="held-out" if shard >= HELD_BACK else "train"), rng


def pages_of(shard: int, count: int = SHARD) -> list[Page]:
    """The first pages of a shard."""
    return [page_of(shard, index)[0] for index in range(count)]


def drawn(shard: int, count: int = SHARD) -> Drawing:
    """Draw the first `count` pages of a shard."""
    images = np.empty((count, 256, 256, 3), np.uint8)
    masks = np.empty((count, SLOTS, FINE, FINE), np.uint8)
    wordings = []
    for index in range(count):
        page, rng = page_of(shard, index)
        picture = page.draw()
        images[index] = picture.image
        masks[index] = averaged_down(picture.slot_masks(), 256 // FINE)
        wordings.append(tuple(_wording(caption(page, rng)) for _ in range(WORDINGS)))
    return Drawing(images, masks, tuple(wordings))


def check_epoch(folder: Path) -> None:
    """Note in `folder` that its pages are those of `WORLD_EPOCH`; a PerfError where it has others."""
    note = folder / "epoch.txt"
    if note.exists() and note.read_text() != str(WORLD_EPOCH):
        raise PerfError(
            f"pages of epoch {note.read_text()} are there, and the world is in epoch {WORLD_EPOCH}",
            where=str(folder),
            hint="delete the folder, and everything that was trained on it, or train with the frozen code",
        )
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(str(WORLD_EPOCH))


def draw_shard(folder: Path, number: int, *, count: int = SHARD, size: int = 256) -> Path:
    """Draw shard `number` into `folder` unless it is there; it appears whole or not at all. Returns its
    folder. size: of the pictures that are kept; the masks shrink with them."""
    target = folder / f"{number:06d}"
    if not target.exists():
        write_drawing(target, smaller(drawn(number, count), size))
    return target


def smaller(drawing: Drawing, size: int) -> Drawing:
    """The shard with pictures of `size`, a part of 256, by area."""
    factor = drawing.images.shape[1] // size
    if factor == 1:
        return drawing
    images = np.stack(
        [averaged_down(page.transpose(2, 0, 1), factor).transpose(1, 2, 0) for page in drawing.images]
    )
    return Drawing(images, averaged_down(drawing.masks, factor), drawing.wordings)


def write_drawing(target: Path, drawing: Drawing) -> None:
    """Write a shard as the folder `target`, which appears whole or not at all."""
    beside = target.with_name(f"partial-{target.name}-{os.getpid()}")
    beside.mkdir(parents=True, exist_ok=True)
    np.save(beside / "images.npy", drawing.images)
    np.save(beside / "masks.npy", drawing.masks)
    told = [[[w.text, list(map(list, w.spans))] for w in words] for words in drawing.wordings]
    (beside / "wordings.json").write_text(json.dumps(told), encoding="utf-8")
    move_into_place(beside, target)


def read_drawing(folder: Path) -> Drawing:
    """The shard in `folder`, its pictures mapped and not read."""
    told = json.loads((folder / "wordings.json").read_text(encoding="utf-8"))
    return Drawing(
        np.load(folder / "images.npy", mmap_mode="r"),
        np.load(folder / "masks.npy", mmap_mode="r"),
        tuple(
            tuple(Wording(text, tuple((a, b, c, d) for a, b, c, d in spans)) for text, spans in words)
            for words in told
        ),
    )


def read_drawings(folder: Path, numbers: Sequence[int]) -> list[Drawing]:
    """The shards of these numbers."""
    return [read_drawing(folder / f"{number:06d}") for number in numbers]


def _wording(told: Caption) -> Wording:
    return Wording(told.text, tuple((m.start, m.end, m.slot, _KINDS[m.kind]) for m in told.mentions))
