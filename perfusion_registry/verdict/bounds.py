"""Bounds on the pictures that a base of the drawn world can draw, measured and written beside its card.

    python -m perfusion_registry.verdict.bounds BASE --photos FOLDER [--pages 200] [--world NAME]

FOLDER has a folder of photographs for each thing, called anything. Drawn pages of every kind are measured in
sets of five, as concepts have pictures, and so are the photographs; each bound lies between the farthest
of the drawn sets and the nearest of photographs, a third of the way, and that of the autoencoder, which
tells them worse, half the way to the farthest. And the world's judge is asked whether each drawn set shows
its own word, and whether it shows each other. All is written to `perf-bounds.toml`, with the words of the
world's captions.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from perfusion_registry.base import Base, describe_base, load_base
from perfusion_registry.base.bounds import BOUNDS_FILE, BaseBounds, words_text
from perfusion_registry.build.framing import square
from perfusion_registry.build.images import load_image
from perfusion_registry.build.unlike import drawability
from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.metrics import world, world_of
from perfusion_registry.recipe.writing import replace_text
from perfusion_registry.verdict.judges import judge_of
from perfusion_registry.worlds import DrawnWorld

LEVELS = (0.1, 0.25)
"""Where pages and photographs are told apart best: with more noise, all things look alike (`docs/log.md`)."""
_SET = 5
_THERE = 1 / 3  # of the way from the pages to the photographs: a warning too many is worse than one too few
_WORDS = ("teddy", "cat", "dog", "teapot")  # under which any photograph is asked about


def drawn_world(name: str) -> DrawnWorld:
    """A world by its name; raises PerfError for one that has no pages to measure by."""
    found = world(name)
    if not isinstance(found, DrawnWorld):
        raise PerfError(f"the drawn world `{name}` has no pages by which bounds could be measured")
    return found


def photographed(folder: Path, base: Base) -> Iterator[tuple[str, Tensor]]:
    """The photographs of each folder, as a build squares them, under each of a few words."""
    for thing in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(path for path in thing.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        images = torch.stack([square(load_image(path).pixels, base.picture_size) for path in files])
        for word in _WORDS:
            yield word, images


def ranges(base: Base, sets: Iterator[tuple[str, Tensor]]) -> dict[str, tuple[float, float]]:
    """The least and greatest of the sets' means, by name."""
    measured = []
    for word, images in sets:
        size = base.picture_size
        fitted = torch.nn.functional.interpolate(images, size=size, mode="area")
        found = drawability(base, fitted, word, LEVELS)
        measured.append((float(found.loss.mean()), float(found.psnr.mean())))
    return {name: spread([one[k] for one in measured]) for k, name in enumerate(("loss", "psnr"))}


def shown(
    base: Base, name: str, kinds: Sequence[str], sets: Iterable[tuple[str, Tensor]]
) -> dict[str, tuple[float, float]]:
    """In which share of its pictures a set shows its own word, and that of another kind: the least and the
    greatest. name: of the world that judges."""
    judge = judge_of(base, BaseBounds(world=name), kinds[0])
    own: list[float] = []
    other: list[float] = []
    for word, images in sets:
        for asked in kinds:
            share = judge.shows(images, asked) if judge is not None else None
            assert share is not None
            (own if asked == word else other).append(share)
    return {"own": spread(own), "another": spread(other)}


def spread(values: Sequence[float]) -> tuple[float, float]:
    """The least and the greatest, to four digits."""
    return round(min(values), 4), round(max(values), 4)


def between(farthest: float, nearest: float, there: float = _THERE) -> float:
    """The bound between drawn pages and photographs, so far on the way; where these overlap, at the farthest
    page."""
    return round(farthest + there * (nearest - farthest), 4)


def bounds_text(
    words: str,
    drawn: dict[str, tuple[float, float]],
    photos: dict[str, tuple[float, float]],
    seen: dict[str, tuple[float, float]],
) -> str:
    """The file. words: its first part."""
    loss = between(drawn["loss"][1], max(photos["loss"][0], drawn["loss"][1]))
    psnr = between(drawn["psnr"][0], min(photos["psnr"][0], drawn["psnr"][0]), 0.5)
    lines = [
        "# Written by `python -m perfusion_registry.verdict.bounds`: what this base's own pictures are like.",
        words.rstrip("\n"),
        f"shows = {between(seen['own'][0], seen['another'][1], 0.5)}",
        f"shown = {{ {', '.join(f'{name} = {list(values)}' for name, values in seen.items())} }}",
        "",
        "[pictures]",
        f"loss = {loss}",
        f"psnr = {psnr}",
        f"levels = {list(LEVELS)}",
    ]
    for name, measured in (("drawn", drawn), ("photographs", photos)):
        pairs = ", ".join(f"{key} = {list(values)}" for key, values in measured.items())
        lines.append(f"{name} = {{ {pairs} }}")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("base", help="as perfusion.toml names it")
    parser.add_argument("--photos", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--pages", type=int, help="at least; default 200, and a set of each kind")
    parser.add_argument("--world", help="the drawn world that the base belongs to; default as its bounds say")
    given = parser.parse_args(arguments)
    description = describe_base(given.base)
    name = given.world or world_of(description)
    pages = drawn_world(name)
    count = given.pages // _SET if given.pages else max(200 // _SET, len(pages.kinds))
    base = load_base(description)
    drawn = ranges(base, pages.sets(count, _SET))
    photos = ranges(base, photographed(given.photos, base))
    seen = shown(base, name, pages.kinds, pages.sets(count, _SET))
    text = bounds_text(words_text(name, pages.things, pages.words), drawn, photos, seen)
    path = description.folder / BOUNDS_FILE
    replace_text(path, text)
    BaseBounds.read(description.folder)
    print(text, end="")


if __name__ == "__main__":
    main()
