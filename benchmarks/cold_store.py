"""Many processes sync one cold store at the same moment: whether each blob is fetched once, and all succeed.

    python -m benchmarks.cold_store --processes 16 --concepts 100

A folder registry is handed out by a web server of this machine, which counts what it is asked for. Each
process is a `perf sync` of one lockfile, with a store that all share and that is empty.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.sync import PERF
from perfusion_registry.artifact import Store, save_artifact
from perfusion_registry.cache_folder import CACHE_VARIABLE
from perfusion_registry.recipe import LockedBase, LockedConcept, Lockfile, write_lockfile
from perfusion_registry.recipe.lockfile import REGISTRY
from tests.artifact.samples import artifact, sd15_layers
from tests.registries.samples import ROOT, folder_registry, release
from tests.registries.web import serving

WIDTH = 768  # of the text encoder of Stable Diffusion 1.5, as large as artifacts usually are


def project(root: Path, url: str, count: int) -> list[str]:
    """A registry of so many concepts, and a folder with a lockfile that names them; their SHA-256s."""
    registry, layers = folder_registry(root / "registry"), sd15_layers()
    blocks = []
    for number in range(count):
        name = f"bear-{number}"
        blob = save_artifact(artifact(layers, WIDTH, name=name))
        told = release("1.0.0", blob, name=name)
        registry.publish(told, blob)
        blocks.append(
            LockedConcept(
                name=name,
                version="1.0.0",
                source=f"{REGISTRY}{url}",
                sha256=told.sha256,
                size=told.size,
                render={"bias": 0.65, "temperature": 0.15, "key_lock": "local"},
            )
        )
    base = LockedBase(repo="storybook", family="f" * 64, digest="b" * 64)
    (root / "project").mkdir()
    write_lockfile(root / "project" / "perfusion.lock", Lockfile(base=base, concepts=tuple(blocks)))
    return [block.sha256 or "" for block in blocks]


def measure(root: Path, processes: int, concepts: int) -> dict[str, object]:
    """The one race; `right` is whether everything came out as it must."""
    (root / "registry").mkdir()
    with serving(root / "registry") as web:
        digests = project(root, web.url, concepts)
        environment = {**os.environ, CACHE_VARIABLE: str(root / "store"), "PYTHONPATH": str(ROOT)}
        begun = time.monotonic()
        runs = [
            subprocess.Popen(
                [*PERF, "sync", "--frozen", "--json"],
                cwd=root / "project",
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(processes)
        ]
        said = [run.communicate() for run in runs]
        seconds = time.monotonic() - begun
        failed = [err[:300] for run, (_, err) in zip(runs, said, strict=True) if run.returncode]
        asked = Counter(path.rpartition("/")[2] for path in web.paths() if "/blobs/" in path)
    there = sum(Store(root / "store").has(digest) for digest in digests)
    times = Counter(asked[digest] for digest in digests)
    return {
        "right": not failed and there == concepts and times == {1: concepts},
        "processes": processes,
        "concepts": concepts,
        "in_the_store": there,
        "blobs_by_times_asked_for": dict(times),
        "failed": failed,
        "seconds": round(seconds, 2),
    }


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--concepts", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), options.processes, options.concepts)))


if __name__ == "__main__":
    main()
