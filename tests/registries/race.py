"""Publishers that race for a registry, each a process: `race` starts them, waits, and says how each fared.

The address of the registry and everything else travels in the environment, as it does for people.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests import forked

RACER = """
import sys, time
from pathlib import Path
from perfusion_registry.registries import AlreadyPublishedError, RegistryError
from perfusion_registry.registries.opening import open_registry
from tests.registries.oci.samples import sample

url, cache, start, version, mark = sys.argv[1:]
registry = open_registry(url, name="studio", root=Path.cwd(), cache=Path(cache))
release, blob = sample(version, mark.encode())
Path(cache).mkdir(parents=True, exist_ok=True)
(Path(cache) / "ready").touch()
while not Path(start).exists():
    time.sleep(0.002)
try:
    print("won" if registry.publish(release, blob) else "there")
except AlreadyPublishedError as error:
    print("lost", release.sha256 in error.what, sep=" ")
except RegistryError as error:
    print("failed", error)
"""


def race(url: str, folder: Path, entries: Sequence[tuple[str, str]], **environment: str) -> list[str]:
    """Let one process for each (version, blob) publish at the same moment; what each of them printed.

    `won`, `there` (the very same release was there), `lost True` (told with its own digest), or `failed`.
    """
    start = folder / "start"
    caches = [folder / f"cache-{number}" for number in range(len(entries))]
    racers = [
        forked.Popen(
            [sys.executable, "-c", RACER, url, str(cache), str(start), version, mark],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
            cwd=Path(__file__).parents[2],
        )
        for cache, (version, mark) in zip(caches, entries, strict=True)
    ]
    deadline = time.monotonic() + 120
    while not all((cache / "ready").exists() for cache in caches) and time.monotonic() < deadline:
        time.sleep(0.01)
    start.touch()
    results = []
    for racer in racers:
        said, complaint = racer.communicate(timeout=180)
        assert racer.returncode == 0, complaint
        results.append(said.strip())
    return results
