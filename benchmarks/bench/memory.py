"""How much memory a process takes at most, with concepts and without: MiB resident, in a process each.

python -m benchmarks.bench.memory render|train [ARTIFACT ...]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.bench.drawing import NAMES, concept, storybook
from benchmarks.bench.training import of_a_teddy, stepped
from benchmarks.bench.turns import Pair, Row
from benchmarks.peak import highest_mib
from benchmarks.render import WITH, WITHOUT, seconds
from perfusion_registry.artifact import load_artifact, save_artifact

ROOT = Path(__file__).parents[2]


def rows() -> list[Row]:
    """A picture with two concepts and residuals, and training steps."""
    without = "of a render without concepts"
    return [
        Row(
            "peak memory of a render, 2 concepts",
            without,
            partial(_peaks, "render"),
            unit="MiB",
        ),
        Row("peak memory of training steps", without, partial(_peaks, "train"), unit="MiB"),
    ]


@contextmanager
def _peaks(ours: str) -> Iterator[Pair]:
    with tempfile.TemporaryDirectory() as temporary:
        files = [Path(temporary) / name for name in (NAMES[:2] if ours == "render" else ())]
        for file in files:
            file.write_bytes(save_artifact(concept(file.name, residual=True)))
        yield _process(ours, *map(str, files)), _process("render")


def _process(*words: str) -> Callable[[], float]:
    def work() -> float:
        command = [sys.executable, "-m", "benchmarks.bench.memory", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return float(done.stdout.split()[-1])

    return work


def main(what: str, *files: str) -> None:
    """In the child: do it, and print the highest that its memory was."""
    base = storybook()
    if what == "train":
        inputs = of_a_teddy(base, residual=True)
        state = inputs.begin()
        stepped(base, inputs, state, count=2)
    else:
        artifacts = {Path(file).name: load_artifact(Path(file).read_bytes()) for file in files}
        seconds(base, WITH if artifacts else WITHOUT, artifacts, 1, 3)
    print(highest_mib())


if __name__ == "__main__":
    main(*sys.argv[1:])
