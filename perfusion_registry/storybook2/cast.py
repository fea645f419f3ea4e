"""The cast: individuals that the embedded base never saw, and their reference pictures.

`python -m perfusion_registry.storybook2.cast recipes` writes the pictures of the example recipes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor

from perfusion_registry.storybook2.staging import ALONE, GROUNDS
from perfusion_registry.storybook2.world.individual import Individual
from perfusion_registry.storybook2.world.layout import standing, step
from perfusion_registry.storybook2.world.outline import whole
from perfusion_registry.storybook2.world.page import Page
from perfusion_registry.storybook2.world.scenery import SIZE, Scenery


def _one(
    name: str, pattern: str | None = None, mark: str | None = None, marks: int = 0, **dyes: str
) -> Individual:
    return Individual(name, tuple(dyes.items()), pattern, mark, marks)


CAST: dict[str, Individual] = {
    "teddy": _one("teddy", main="green", second="purple"),
    "robot": _one("robot-3", main="turquoise", second="orange", third="red"),
    "doll": _one("doll", main="purple", second="orange", third="yellow"),
    "anna": _one("doll-2", "stars", "yellow", 5, main="blue", second="red", third="white"),
    "dog": _one("dog", main="white", second="brown", third="red"),
    "puppy": _one("dog-2", "stripes", "brown", 1, main="orange", second="blue"),
    "rabbit": _one("rabbit", main="blue", second="white"),
    "teapot": _one("teapot-3", main="red", second="yellow"),
    "pot": _one("pot-2", main="turquoise", second="red"),
    "chair": _one("chair-2", "stripes", "red", 1, main="yellow", second="brown"),
    "shoe": _one("shoe", "stripes", "purple", 2, main="orange", second="white"),
}
"""The paper's eleven: four toys, three pets, two containers, a piece of furniture, a wearable. Each is of a
look that no training saw (`grammar.held_out_look`)."""

_SETTINGS: tuple[Scenery, ...] = (
    Scenery(colour=GROUNDS[0], horizon=172),
    Scenery("room", 40),
    Scenery("garden", 70, mirrored=True),
    Scenery("beach", 20),
    Scenery("kitchen", 60),
)
"""Ordinary places, in which people take pictures of their things."""


def reference_pages(one: Individual, count: int = 5) -> list[Page]:
    """Pages that show the individual alone in ordinary places: nearer and farther, to the left and to the
    right, and turned round where its drawing may be."""
    rng = Random(f"references {one}")
    pages: list[Page] = []
    while len(pages) < count:
        scenery = _SETTINGS[len(pages) % len(_SETTINGS)]
        px = step(min(max(SIZE * one.drawing.height * ALONE * rng.uniform(0.8, 1.2), 128), 208))
        thing = standing(rng, one, scenery, rng.uniform(0.38, 0.62), px)
        page = whole(Page(scenery, (thing,), sizes=(None,), seed=rng.getrandbits(32)))
        if page is not None:
            pages.append(page)
    return pages


def pictures_of(pages: list[Page]) -> Tensor:
    """Pages drawn: (B, 3, 256, 256) in 0..1."""
    images = np.stack([page.draw().image for page in pages])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def reference_images(one: Individual, count: int = 5) -> Tensor:
    """Pictures (count, 3, 256, 256) in 0..1 of the individual, as a person would photograph it."""
    return pictures_of(reference_pages(one, count))


def write_references(folder: Path, names: tuple[str, ...] = ("teddy", "teapot")) -> None:
    """Write the reference pictures of some of the cast to `folder/<name>/<n>.png`."""
    from PIL import Image

    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for k, page in enumerate(reference_pages(CAST[name])):
            Image.fromarray(page.draw().image).save(folder / name / f"{k + 1}.png", optimize=True)


if __name__ == "__main__":
    write_references(Path(sys.argv[1]))
