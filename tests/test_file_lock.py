"""A lock on a file: one holder, however it dies; and file systems that have no locks at all."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from perfusion_registry.artifact import Store
from perfusion_registry.artifact.locking import read_lock, write_lock
from perfusion_registry.artifact.pruning import prune
from perfusion_registry.errors import PerfError
from perfusion_registry.file_lock import file_lock
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.reporter import Silent
from tests.registries.samples import folder_registry, release

posix = pytest.mark.skipif(sys.platform == "win32", reason="flock")


class Warnings(Silent):
    def __init__(self) -> None:
        self.told: list[str] = []

    def warn(self, text: str) -> None:
        self.told.append(text)


def test_one_process_holds_it_and_a_death_lets_go(tmp_path: Path) -> None:
    path, waits = tmp_path / "a.lock", []
    text = (
        "import sys, time; from pathlib import Path; from perfusion_registry.file_lock import file_lock\n"
        "with file_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", text, str(path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(TimeoutError), file_lock(path, timeout=0):
            pass

        def wait() -> None:
            waits.append("once")
            threading.Timer(0.3, other.kill).start()

        with file_lock(path, wait=wait) as held:
            assert held
    assert waits == ["once"]


def test_threads_exclude_each_other_and_readers_share(tmp_path: Path) -> None:
    path, most, inside = tmp_path / "a.lock", [0], [0]

    def enter() -> None:
        for _ in range(20):
            with file_lock(path, poll=0.001):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    if sys.platform != "win32":
        with (
            file_lock(path, shared=True),
            file_lock(path, shared=True),
            pytest.raises(TimeoutError),
            file_lock(path, timeout=0),
        ):
            pass


@posix
@pytest.mark.parametrize("answer", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, 524])
def test_where_there_are_no_locks_everything_goes_on_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int
) -> None:
    """What a kernel answers for such a file system; lock files lie there already."""
    store = tmp_path / "store"
    with read_lock(store), Store(store).building("0" * 64, "teddy"):
        pass

    def flock(descriptor: int, kind: int) -> None:
        raise OSError(answer, "no locks")

    monkeypatch.setattr("fcntl.flock", flock)
    warnings = Warnings()
    with Workspace.outside(store=store, reporter=warnings) as workspace:
        with workspace.store.building("0" * 64, "teddy", warnings):
            workspace.store.put(b"bytes")
        registry = folder_registry(tmp_path / "registry")
        for version in ("1.0.0", "1.1.0"):  # the second replaces the index
            registry.publish(release(version), b"bear")
    (told,) = warnings.told
    assert f"the file system of {store} has no locks" in told
    assert len(prune(store, reporter=warnings).removed) == 1
    assert len(warnings.told) == 2


@posix
def test_a_lock_file_that_fails_otherwise_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, kind: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(OSError, match="Input/output"), file_lock(tmp_path / "a.lock"):
        pass
    with pytest.raises(PerfError, match="Input/output"), write_lock(tmp_path):
        pass
