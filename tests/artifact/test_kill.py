"""A few of the kills of `benchmarks/kill.py`: of operations that are quick."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from benchmarks.kill import Operation, Prune, Publish, Sync, held, measure
from perfusion_registry.file_lock import file_lock

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")]


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: Publish(folder / "publish", str(folder / "finder")),
        lambda folder: Sync(folder / "sync", str(folder / "finder")),
        lambda folder: Prune(folder / "prune"),
    ],
    ids=["publish", "sync", "prune"],
)
def test_kills_corrupt_nothing_hold_nothing_and_the_next_run_completes(
    make: Callable[[Path], Operation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERF_DATA_DIR", str(tmp_path / "data"))
    tally = measure(make(tmp_path), 4, Random(0))
    assert tally.kills == 4
    assert tally.right, tally.told


def test_looking_for_held_locks_changes_no_file_and_takes_no_lockfile_for_one(tmp_path: Path) -> None:
    lockfile, lock = tmp_path / "project" / "perfusion.lock", tmp_path / "locks" / "store.lock"
    for path in (lockfile, lock):
        path.parent.mkdir()
        path.write_text("version = 1\n")
    assert list(Operation(tmp_path).locks()) == [lock]
    with file_lock(lock):
        assert held(lock)
    assert not held(lock)
    assert lock.read_text() == "version = 1\n"
