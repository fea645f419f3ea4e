"""Drawings on disk: shards of painted pages that the training stages read.

A shard is a pure function of its number, so a killed run continues with the shards that are missing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from perfusion_registry.storybook.captions import training_pages
from perfusion_registry.storybook.world import CATEGORIES, draw_page, paint

SIZE = 128
GRID = 16
"""Pixels of a picture's side, and cells of its latent's."""
SHARD = 4000


@dataclass(frozen=True)
class Shard:
    """Painted pages: images (n, 3, SIZE, SIZE) uint8; owners (n, 2, GRID, GRID) uint8, the share of each
    cell that the first and second subject cover; categories (n, 2) int8, -1 where there is no second
    subject; captions."""

    images: NDArray[np.uint8]
    owners: NDArray[np.uint8]
    categories: NDArray[np.int8]
    captions: list[str]


def draw_shard(folder: Path, number: int, *, count: int = SHARD, device: str = "cpu") -> None:
    """Paint shard `number` into `folder`, unless it is there already; files appear whole or not at all."""
    target = folder / f"{number:04d}.npz"
    if target.exists():
        return
    rng = Random(f"storybook {number}")
    pages = training_pages(rng)
    images = np.empty((count, 3, SIZE, SIZE), np.uint8)
    owners = np.empty((count, 2, GRID, GRID), np.uint8)
    categories = np.full((count, 2), -1, np.int8)
    captions: list[str] = []
    for start in range(0, count, 250):
        batch = [next(pages) for _ in range(min(250, count - start))]
        canvas = paint(
            [draw_page(page) for page, _ in batch], [page.style for page, _ in batch],
            size=SIZE, seed=number * count + start, device=device,
        )  # fmt: skip
        part = slice(start, start + len(batch))
        images[part] = (canvas.images * 255).round().byte().cpu().numpy()
        masks = torch.stack([canvas.owners == 1, canvas.owners == 2], 1).float()
        owners[part] = (functional.avg_pool2d(masks, SIZE // GRID) * 255).round().byte().cpu().numpy()
        for row, (page, text) in enumerate(batch, start):
            captions.append(text)
            for k, one in enumerate(page.subjects):
                categories[row, k] = CATEGORIES.index(one.category)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{number:04d}.images.npy", images)
    (folder / f"{number:04d}.captions.json").write_text(json.dumps(captions))
    partial = folder / f"{number:04d}.partial.npz"
    np.savez(partial, owners=owners, categories=categories)
    os.replace(partial, target)


def read_shards(folder: Path) -> Iterator[Shard]:
    """All complete shards of the folder in order; images are mapped, not read."""
    for target in sorted(p for p in folder.glob("[0-9]*.npz") if "partial" not in p.name):
        rest = np.load(target)
        yield Shard(
            np.load(target.with_suffix(".images.npy"), mmap_mode="r"),
            rest["owners"],
            rest["categories"],
            json.loads(target.with_suffix(".captions.json").read_text()),
        )
