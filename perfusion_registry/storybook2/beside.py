"""What lies beside the networks in a base folder of this world: its card, and the words of its captions.

    python -m perfusion_registry.storybook2.beside FOLDER [--captions FILE [--count 100000]]

FILE gets captions by chance, one a line, for `perf covariance`. What was measured of the base (`python -m
perfusion_registry.verdict.bounds`) is left as it is.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random

from perfusion_registry.base.bounds import BOUNDS_FILE, words_text
from perfusion_registry.base.card import CARD_FILE
from perfusion_registry.storybook2.captions import caption
from perfusion_registry.storybook2.grammar import WORLD_EPOCH, sample_page
from perfusion_registry.storybook2.judging import WORLD, WORLD_NAME

CARD = Path(__file__).with_name(CARD_FILE)
"""The card that every base of this world has."""


def write_beside(folder: Path) -> None:
    """Write card and bounds into a base's folder. Bounds that are there stay, as they may be measured."""
    shutil.copyfile(CARD, folder / CARD_FILE)
    bounds = folder / BOUNDS_FILE
    if not bounds.exists():
        bounds.write_text(words_text(WORLD_NAME, WORLD.things, WORLD.words), encoding="utf-8")


def captions() -> Iterator[str]:
    """Endless captions of pages by chance, as trainings read them."""
    rng = Random(f"storybook2/{WORLD_EPOCH}/covariance")
    while True:
        yield caption(sample_page(rng), rng).text


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--captions", type=Path, metavar="FILE")
    parser.add_argument("--count", type=int, default=100_000)
    given = parser.parse_args(arguments)
    write_beside(given.folder)
    if given.captions is not None:
        lines = (f"{line}\n" for line in islice(captions(), given.count))
        given.captions.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
