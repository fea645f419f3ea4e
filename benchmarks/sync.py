"""How long `perf sync` takes where nothing is to be done: a process from its start to its end.

python -m benchmarks.sync [--concepts 100 1000] [--rounds N]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from perfusion_registry.artifact import Store
from perfusion_registry.cache_folder import CACHE_VARIABLE
from perfusion_registry.recipe import LockedBase, LockedConcept, Lockfile, write_lockfile
from perfusion_registry.recipe.lockfile import REGISTRY

PERF = [sys.executable, "-c", "from perfusion_registry.cli import main; main()"]


def project(root: Path, count: int) -> dict[str, str]:
    """A project whose lockfile names `count` concepts of 34 KB, all stored; the environment for it."""
    store = Store(root / "store")
    folder = root / "project"
    folder.mkdir(parents=True)
    concepts, entries = [], []
    for number in range(count):
        data = hashlib.sha256(str(number).encode()).digest() * 1063
        concepts.append(
            LockedConcept(
                name=f"concept-{number}",
                version="1.0.0",
                source=f"{REGISTRY}../registry",
                sha256=store.put(data),
                size=len(data),
                render={"bias": 0.6, "temperature": 0.15, "key_lock": "local"},
            )
        )
        entries.append(f'concept-{number} = {{ version = ">=1,<2", registry = "studio" }}\n')
    base = LockedBase(repo="storybook", family="f" * 64, digest="b" * 64)
    write_lockfile(folder / "perfusion.lock", Lockfile(base=base, concepts=tuple(concepts)))
    manifest = '[project]\nname = "bench"\n\n[registries]\nstudio = "../registry"\n\n[concepts]\n'
    (folder / "perfusion.toml").write_text(manifest + "".join(entries))
    return {**os.environ, CACHE_VARIABLE: str(store.root)}


def run(folder: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Wall-clock and processor seconds of one `perf sync`."""
    before = os.times()
    begun = time.perf_counter()
    done = subprocess.run(
        [*PERF, "sync"], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    wall = time.perf_counter() - begun
    after = os.times()
    assert done.stdout.startswith("In sync"), done
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concepts", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    for count in options.concepts:
        with tempfile.TemporaryDirectory() as folder:
            environment = project(Path(folder), count)
            time.sleep(2.1)  # a file as young as that is not yet believed unchanged
            first, _ = run(Path(folder) / "project", environment)
            runs = [run(Path(folder) / "project", environment) for _ in range(options.rounds)]
            walls, spent = sorted(wall for wall, _ in runs), sorted(cpu for _, cpu in runs)
            print(
                f"{count} concepts: {1000 * walls[0]:.0f} ms best, {1000 * walls[len(walls) // 2]:.0f} ms "
                f"median of {len(runs)} ({1000 * spent[0]:.0f} ms of processor); "
                f"the first sync, which hashes, {1000 * first:.0f} ms"
            )


if __name__ == "__main__":
    main()
