"""The cast: individuals that the embedded base never saw, and their reference images.

`python -m perfusion_registry.storybook.cast recipes` writes the images of the example recipes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import torch

from perfusion_registry.storybook.world import Individual, Page, draw_page, paint

CAST: dict[str, Individual] = {
    "teddy": Individual("teddy", "green", "purple", "green", "heart", "purple", ear=1.15),
    "teapot": Individual("teapot", "white", "red", "red", "striped", "orange"),
    "cat": Individual("cat", "grey", "orange", "grey", "striped", "orange", eye="green"),
    "dog": Individual("dog", "white", "black", "white", "spotted", "black"),
    "pot": Individual("pot", "blue", "yellow", "blue", "spotted", "white"),
    "chair": Individual("chair", "yellow", "red", "yellow", "heart", "red"),
    "bruno": Individual("teddy", "brown", "white", "brown", "heart", "yellow", ear=0.9, width=1.06),
    "snowy": Individual("teddy", "white", "red", "white", "heart", "red", height=0.94),
    "rosie": Individual("teddy", "pink", "brown", "pink", "spotted", "brown", ear=1.2, width=0.94),
    "puppy": Individual("dog", "orange", "brown", "orange", "patch", "brown", ear=1.1, height=0.95),
    "boat": Individual("boat", "blue", "white", "red", "striped", "white"),
}
"""Eleven individuals of seven categories; every look is reserved (`captions.is_reserved`)."""

_REFERENCE_SCENES = (None, "in a room", "on the beach", "in a garden", None)


def reference_pages(one: Individual, count: int = 5) -> list[Page]:
    """Pages that show the individual alone in ordinary places."""
    rng = Random(f"references {one}")
    scenes = [_REFERENCE_SCENES[k % len(_REFERENCE_SCENES)] for k in range(count)]
    return [Page((one,), None, scene, None, rng.getrandbits(32)) for scene in scenes]


def reference_images(one: Individual, count: int = 5, *, size: int = 256) -> torch.Tensor:
    """Pictures (count, 3, size, size) in 0..1 of the individual, as a person would photograph it."""
    return paint([draw_page(page) for page in reference_pages(one, count)], size=size).images


def write_references(folder: Path, names: tuple[str, ...] = ("teddy", "teapot")) -> None:
    """Write the reference images of some of the cast to `folder/<name>/<n>.png`."""
    from PIL import Image

    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for k, picture in enumerate(reference_images(CAST[name])):
            pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(folder / name / f"{k + 1}.png", optimize=True)


if __name__ == "__main__":
    write_references(Path(sys.argv[1]))
