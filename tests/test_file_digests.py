"""Digests that are remembered, and never longer than the file stays as it was."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perfusion_registry.errors import PerfError
from perfusion_registry.file_digests import SETTLE, FileDigests, FileStamp, sha256_of


class Counted:
    """Computes something of a file, and counts how often."""

    def __init__(self) -> None:
        self.read: list[bytes] = []

    def __call__(self, path: Path) -> str:
        self.read.append(path.read_bytes())
        return str(len(self.read))


def test_an_unchanged_file_is_read_once_and_a_changed_one_again(tmp_path: Path) -> None:
    path, compute, digests = tmp_path / "weights", Counted(), FileDigests(tmp_path / "store", settle=0.0)
    path.write_bytes(b"one")
    assert [digests.remembered("test", path, compute) for _ in range(3)] == ["1", "1", "1"]
    assert FileDigests(tmp_path / "store").remembered("test", path, compute) == "1"  # of another process
    assert digests.remembered("other", path, compute) == "2"  # several things of one file
    assert digests.remembered("test", path, compute) == "1"
    status = path.stat()
    path.write_bytes(b"two")  # of the same size, with its old time put back
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digests.remembered("test", path, compute) == "3"
    assert compute.read[-1] == b"two"
    path.with_name("new").write_bytes(b"six")
    os.replace(path.with_name("new"), path)  # another file under the name
    assert digests.remembered("test", path, compute) == "4"
    assert digests.sha256(path) == hashlib.sha256(b"six").hexdigest() == sha256_of(path)


def test_a_file_that_was_just_written_is_not_trusted_to_stay(tmp_path: Path) -> None:
    path, compute, digests = tmp_path / "weights", Counted(), FileDigests(tmp_path / "store", settle=0.3)
    path.write_bytes(b"one")
    assert [digests.remembered("test", path, compute) for _ in range(2)] == ["1", "2"]
    assert not (tmp_path / "store").exists()
    time.sleep(0.35)
    assert [digests.remembered("test", path, compute) for _ in range(3)] == ["3", "3", "3"]
    ahead = time.time() + 3600
    os.utime(path, (ahead, ahead))  # by a clock that goes wrong
    assert [digests.remembered("test", path, compute) for _ in range(2)] == ["4", "5"]


@pytest.mark.parametrize("settle", [0.0, SETTLE])
def test_a_stamp_has_rested_only_after_its_time(settle: float) -> None:
    now = time.time_ns()
    for age, rested in ((settle - 0.5, False), (settle + 0.5, True)):
        then = now - int(age * 1e9)
        for stamp in (FileStamp(1, then, 0, 7), FileStamp(1, 0, then, 7)):  # the later of the two counts
            assert stamp.has_rested(settle) is rested
            assert stamp.values() == [1, then, 7]


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b'{"stamp": [1, 2, 3], "digests": {"test": "x"}}',
        b'{"digests": {"test": "x"}}',
        b"[",
    ],
)
def test_a_damaged_memory_only_costs_time(damage: bytes, tmp_path: Path) -> None:
    path, compute, digests = tmp_path / "weights", Counted(), FileDigests(tmp_path / "store", settle=0.0)
    path.write_bytes(b"one")
    digests.remembered("test", path, compute)
    (memory,) = (tmp_path / "store" / "digests").glob("*/*.json")
    memory.write_bytes(damage)
    assert [digests.remembered("test", path, compute) for _ in range(2)] == ["2", "2"]


def test_a_store_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"no folder")
    (tmp_path / "file").write_bytes(b"one")
    assert FileDigests(tmp_path / "store", settle=0.0).sha256(tmp_path / "file") == sha256_of(
        tmp_path / "file"
    )


def test_a_file_that_cannot_be_read_or_changes_meanwhile_is_an_error(tmp_path: Path) -> None:
    digests, path = FileDigests(tmp_path / "store", settle=0.0), tmp_path / "file"
    for work in (digests.sha256, sha256_of):
        with pytest.raises(PerfError, match="cannot be read: No such file") as caught:
            work(path)
        assert caught.value.where == str(path)
    path.write_bytes(b"one")

    def compute(path: Path) -> str:
        path.write_bytes(b"another")
        return "x"

    with pytest.raises(PerfError, match="changed while it was read"):
        digests.remembered("test", path, compute)
    assert digests.sha256(path) == hashlib.sha256(b"another").hexdigest()


def test_processes_at_once_agree(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(10**6))
    program = (
        "import sys; from pathlib import Path; from perfusion_registry.file_digests import FileDigests\n"
        "for _ in range(50): print(FileDigests(Path(sys.argv[1]), settle=0.0).sha256(Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "store"), str(path)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = {line for run in runs for line in run.communicate()[0].split()}
    assert printed == {sha256_of(path)}
    assert not list((tmp_path / "store").rglob("*.tmp"))
