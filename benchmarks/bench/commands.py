"""What commands cost that draw nothing: to start, to sync what is in sync, to resolve; and how that grows."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.bench.turns import Pair, Row
from benchmarks.resolve import AtHand, timed, world
from benchmarks.startup import PERF
from benchmarks.sync import project, run
from perfusion_registry.cache_folder import CACHE_VARIABLE
from perfusion_registry.registries import Listing
from perfusion_registry.resolve.requirement import Requirement

ROOT = Path(__file__).parents[2]
VERSIONS = 20
FEWEST, GROWN = 10, (100, 1_000, 10_000)


def rows() -> list[Row]:
    """Starting beside Python's own, then each size beside the smallest: where the ratio is that of the sizes,
    time grows as they do."""
    asked = {"`perf --help`": ["--help"], "`perf list`": ["list"], "`perf lock --check`": ["lock", "--check"]}
    starts = [Row(name, "`import typer`", partial(_started, words)) for name, words in asked.items()]
    syncs = [
        Row(f"`perf sync` of {count:,} concepts in sync", f"of {FEWEST}", partial(_synced, count))
        for count in GROWN
    ]
    resolved = [
        Row(f"resolving {count:,} concepts of {VERSIONS} versions", f"{FEWEST}", partial(_resolved, count))
        for count in GROWN
    ]
    return [*starts, *syncs, *resolved]


@contextmanager
def _started(words: list[str]) -> Iterator[Pair]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        variables = {**os.environ, CACHE_VARIABLE: str(folder / "store"), "PYTHONPATH": str(ROOT)}
        text = (ROOT / "perfusion.toml").read_text(encoding="utf-8").replace("recipes/", f"{ROOT}/recipes/")
        (folder / "perfusion.toml").write_text(text, encoding="utf-8")

        def process(program: str, *arguments: str) -> Callable[[], None]:
            def work() -> None:
                subprocess.run(
                    [sys.executable, "-c", program, *arguments],
                    cwd=folder,
                    env=variables,
                    capture_output=True,
                    check=True,
                )

            return work

        process(PERF, "lock")()
        yield process(PERF, *words), process("import typer")


@contextmanager
def _synced(count: int) -> Iterator[Pair]:
    with tempfile.TemporaryDirectory() as temporary:

        def synced(size: int) -> Callable[[], float]:
            root = Path(temporary) / str(size)
            variables = project(root, size)
            return lambda: 1000 * run(root / "project", variables)[0]

        pair = synced(count), synced(FEWEST)
        time.sleep(2.1)  # a file as young as that is not yet believed unchanged
        yield pair


@contextmanager
def _resolved(count: int) -> Iterator[Pair]:
    def resolved(size: int) -> Callable[[], float]:
        made = world(size, VERSIONS, packs=False)
        place: Any = AtHand({name: tuple(map(Listing, releases)) for name, releases in made.items()})
        requirements = [Requirement(name, ">=1", "registry", "bench") for name in made]
        return lambda: 1000 * timed(lambda _: place, requirements)[0]

    yield resolved(count), resolved(FEWEST)
