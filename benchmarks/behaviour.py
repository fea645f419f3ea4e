"""Whether a commit computes what another computed: concepts to the bit, pictures to the pixel.

    python -m benchmarks.behaviour
    python -m benchmarks.behaviour --before v1 --after HEAD --steps 60
    python -m benchmarks.behaviour --quick

Both commits are checked out beside each other, and each builds four concepts on the embedded base (a local
and a global lock, trained keys, a personalised residual in company) and draws each alone and in twos: with
one seed, on one machine, and with as many threads on both sides. Then tensors, cards, keys and pixels are
compared; a table says what is equal, and the exit status is 1 where anything is not.

Everything goes through the command line and files, so the modules of either side may be where they like.
What a later format calls otherwise, `--names` says (see `benchmarks/same_artifact.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.same_artifact import Names, card_differences, read_tensors, tensor_differences

ROOT = Path(__file__).parent.parent
BEFORE = "22bdd68"
MANIFEST = """\
[project]
name = "behaviour"

[concepts]
"""
RECIPE = """\
[concept]
name = "{name}"
version = "1.0.0"
supercategory = "{word}"
images = ["{word}/*.png"]

[train]
steps = {steps}
validate_every = {every}
validation_steps = 3
validation_prompts = ["a photo of a {{}}", "a {{}} in the snow"]
{train}
[render]
{render}
"""
CONCEPTS = {
    "local": ("teddy", "residual_rank = 0.0\n", 'key_lock = "local"'),
    "global": ("teapot", "residual_rank = 0.0\n", 'key_lock = "global"'),
    "keys": ("teddy", 'residual_rank = 0.0\ntrained_keys = true\nmask = "none"\n', "bias = 0.6"),
    "residual": ("teapot", 'residual_rank = 0.05\ncompany = ["a {} next to a chair"]\n', "residual = 0.8"),
}
"""By name: the supercategory, the lines of `[train]`, and those of `[render]`."""
PROMPTS = {
    **{name: f"a photo of a {name}*" for name in CONCEPTS},
    "local and global": "a local* sailing in a global*",
    "keys and residual": "a keys* next to a residual* in the snow",
}


@dataclass(frozen=True)
class Side:
    """A commit in a checkout of its own, with a project and a store beside it."""

    commit: str
    checkout: Path
    folder: Path
    threads: int

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def perf(self, *arguments: str) -> None:
        """Run a command of this commit; raises SystemExit with what it said where it fails."""
        entry = tomllib.loads((self.checkout / "pyproject.toml").read_text())["project"]["scripts"]["perf"]
        module, function = entry.split(":")
        package = module.partition(".")[0]
        # An installed copy must not be taken for the commit's own.
        own = f"import {package}; assert {package}.__file__.startswith({str(self.checkout)!r})"
        done = subprocess.run(
            [sys.executable, "-c", f"{own}; from {module} import {function}; {function}()", *arguments],
            cwd=self.project,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"{self.commit}: perf {' '.join(arguments)} failed\n{done.stderr[-3000:]}")

    def _environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PERF_", "PYTHON"))}
        threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        return kept | {
            "PYTHONPATH": str(self.checkout),
            "PERF_CACHE_DIR": str(self.folder / "store"),
            "PERF_DATA_DIR": str(self.folder / "data"),
            "HF_HUB_OFFLINE": "1",
            "NO_COLOR": "1",
            **dict.fromkeys(threads, str(self.threads)),
        }

    def locked(self) -> dict[str, dict[str, Any]]:
        """The blocks of the lockfile by name."""
        lock = tomllib.loads((self.project / "perfusion.lock").read_text(encoding="utf-8"))
        return {block["name"]: block for block in lock["concept"]}

    def artifact(self, name: str) -> Path:
        """The file of a concept that was built."""
        (path,) = (self.folder / "store").glob(f"artifacts/*/{self.locked()[name]['sha256']}*")
        return path

    def keys(self) -> dict[str, str]:
        """Which key built what: the name of the concept by training key and build key."""
        names = {block["sha256"]: name for name, block in self.locked().items()}
        records = (self.folder / "store" / "builds").glob("*/*")
        return {path.name: names.get(path.read_text().strip(), "?") for path in records}

    def pictures(self, name: str) -> list[Path]:
        return sorted((self.folder / "drawn" / name).glob("*.png"))


def prepare(side: Side, images: Path, steps: int) -> None:
    """Write the project; both sides get the same images."""
    (side.project / "recipes").mkdir(parents=True)
    for word in {word for word, _, _ in CONCEPTS.values()}:
        shutil.copytree(images / word, side.project / "recipes" / word)
    for name, (word, train, render) in CONCEPTS.items():
        every = max(1, steps // 2)
        text = RECIPE.format(name=name, word=word, steps=steps, every=every, train=train, render=render)
        (side.project / "recipes" / f"{name}.toml").write_text(text)
    entries = "".join(f'{name} = {{ recipe = "recipes/{name}.toml" }}\n' for name in CONCEPTS)
    (side.project / "perfusion.toml").write_text(MANIFEST + entries)


def work(side: Side, steps: int, count: int) -> float:
    """Build and draw everything; returns the seconds."""
    begun = time.monotonic()
    side.perf("build", "--device", "cpu", "--quiet")
    for name, prompt in PROMPTS.items():
        drawing = ("--steps", str(steps), "--count", str(count), "--batch", str(count), "--seed", "5")
        out = ("--out", str(side.folder / "drawn" / name), "--device", "cpu", "--quiet")
        side.perf("render", prompt, *drawing, *out)
    return time.monotonic() - begun


def picture_differences(before: list[Path], after: list[Path]) -> list[str]:
    """What differs between pictures, a line for each."""
    if len(before) != len(after) or not before:
        return [f"{len(before)} pictures were drawn, and then {len(after)}"]
    told = []
    for number, paths in enumerate(zip(before, after, strict=True)):
        one, other = (np.asarray(Image.open(path).convert("RGB")).astype(int) for path in paths)
        if one.shape != other.shape:
            told.append(f"picture {number} has another size")
        elif (one != other).any():
            levels = np.abs(one - other)
            share = (levels.max(-1) > 0).mean()
            told.append(
                f"picture {number} differs in {share:.0%} of its pixels, by {levels.max()} levels at most"
            )
    return told


def compare(
    before: Side, after: Side, names: Names, plain: dict[str, dict[str, np.ndarray]]
) -> list[tuple[str, str, list[str]]]:
    """Everything that was compared: of what, what, and how it differs."""
    told: list[tuple[str, str, list[str]]] = []
    for name in CONCEPTS:
        files = before.artifact(name), after.artifact(name)
        told.append((name, "tensors", tensor_differences(*files, names, plain.get(name))))
        told.append((name, "card", card_differences(*files, names)))
        keys = [sorted(key for key, of in side.keys().items() if of == name) for side in (before, after)]
        keys_differ = keys[0] != keys[1] or len(keys[0]) != 2
        told.append((name, "keys", [f"were {keys[0]} and are {keys[1]}"] if keys_differ else []))
    for name in PROMPTS:
        told.append((name, "pictures", picture_differences(before.pictures(name), after.pictures(name))))
    return told


@contextlib.contextmanager
def checkout(commit: str, folder: Path) -> Iterator[Path]:
    """A work tree of that commit, removed in the end."""
    git("worktree", "add", "--detach", "--force", str(folder), commit)
    try:
        yield folder
    finally:
        git("worktree", "remove", "--force", str(folder))


def git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr.strip())
    return done.stdout.strip()


def tell(told: list[tuple[str, str, list[str]]], read: int, drawn: int) -> int:
    """Print the table; returns how many things differ."""
    width = max(len(name) for name, _, _ in told)
    for name, kind, differences in told:
        print(f"{name:{width}}  {kind:8}  {'DIFFERENT' if differences else 'equal'}")
        for line in differences[:8]:
            print(f"{'':{width}}      {line}")
        if len(differences) > 8:
            print(f"{'':{width}}      and {len(differences) - 8} more")
    different = sum(bool(differences) for _, _, differences in told)
    print(f"{read} tensors, {drawn} pictures; {len(told) - different} of {len(told)} equal")
    return different


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--before", default=BEFORE, metavar="COMMIT")
    parser.add_argument("--after", default="HEAD", metavar="COMMIT")
    parser.add_argument("--steps", type=int, default=24, help="of training (24)")
    parser.add_argument(
        "--quick", action="store_true", help="4 steps of training, one picture of 2 steps each"
    )
    parser.add_argument("--threads", type=int, default=1, help="of each side (1)")
    parser.add_argument("--in-turn", action="store_true", help="one side after the other")
    parser.add_argument("--names", type=Path, metavar="FILE", help="JSON: what is called otherwise after")
    parser.add_argument(
        "--plain",
        action="append",
        default=[],
        metavar="CONCEPT=FILE",
        help="safetensors: what offsets after are to be added to, by their names before",
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="leave both projects, stores and pictures here"
    )
    arguments = parser.parse_args()
    steps, drawing, count = (4, 2, 1) if arguments.quick else (arguments.steps, 10, 2)
    names = Names.read(arguments.names) if arguments.names else Names()
    plain = {
        concept: read_tensors(Path(file))[0]
        for concept, file in (said.split("=", 1) for said in arguments.plain)
    }
    commits = [
        git("rev-parse", "--short", f"{one}^{{commit}}") for one in (arguments.before, arguments.after)
    ]
    if arguments.after == "HEAD" and re.search(r"^.[^ ?]|^[^ ?]", git("status", "--porcelain"), re.MULTILINE):
        print("note: HEAD is compared, not the changes that are not committed")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="perf-behaviour-"))).resolve()
        kept = folder if arguments.keep is None else arguments.keep.resolve()
        sides = []
        for commit, when in zip(commits, ("before", "after"), strict=True):
            tree = stack.enter_context(checkout(commit, folder / "trees" / when))
            sides.append(Side(commit, tree, kept / when, arguments.threads))
            prepare(sides[-1], sides[0].checkout / "recipes", steps)
        with ThreadPoolExecutor(1 if arguments.in_turn else 2) as pool:
            seconds = list(pool.map(lambda side: work(side, drawing, count), sides))
        told = compare(*sides, names, plain)
        read = sum(len(read_tensors(sides[0].artifact(name))[0]) for name in CONCEPTS)
        drawn = sum(len(sides[0].pictures(name)) for name in PROMPTS)
    times = ", ".join(f"{commit} {taken:.0f} s" for commit, taken in zip(commits, seconds, strict=True))
    print(f"{steps} steps of training, pictures of {drawing}; threads: {arguments.threads}; {times}")
    sys.exit(bool(tell(told, read, drawn)))


if __name__ == "__main__":
    main()
