"""The folder as a bucket: atomic, locked by the kernel, and wary of what lies in it."""

from __future__ import annotations

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from perfusion_registry.registries import RegistryError
from perfusion_registry.registries.bucket import NotModified, StoredObject
from perfusion_registry.registries.folder import FolderBucket
from tests.registries.samples import ROOT, program

posix = pytest.mark.skipif(os.name != "posix", reason="pipes and locks of POSIX")


def test_objects_are_created_once_and_replaced_by_their_tag(tmp_path: Path) -> None:
    bucket = FolderBucket(tmp_path / "r", url="r")
    assert bucket.get("a/b", limit=9) is None
    assert bucket.create("a/b", b"one")
    assert not bucket.create("a/b", b"two")
    found = bucket.get("a/b", limit=9)
    assert isinstance(found, StoredObject)
    assert found.data == b"one"
    assert bucket.get("a/b", limit=9, known_tag=found.tag) == NotModified()
    assert bucket.replace("a/b", b"two", found.tag)
    assert not bucket.replace("a/b", b"three", found.tag)
    assert (tmp_path / "r" / "a" / "b").read_bytes() == b"two"
    assert not list(tmp_path.rglob("*.tmp"))


def test_what_has_rested_and_was_not_touched_is_not_read_again(tmp_path: Path) -> None:
    bucket, path = FolderBucket(tmp_path, url="r", settle=0.0), tmp_path / "k"
    assert bucket.create("k", b"one")
    young = FolderBucket(tmp_path, url="r").get("k", limit=9)
    assert isinstance(young, StoredObject)
    rested = bucket.get("k", limit=9, known_tag=young.tag)
    assert isinstance(rested, StoredObject)
    assert rested.tag.startswith(young.tag)
    assert bucket.get("k", limit=9, known_tag=rested.tag) == NotModified()
    assert bucket.get("k", limit=2, known_tag=rested.tag) == NotModified()  # it is not even read
    # Other bytes of the same length, written in place, with the old time put back.
    about = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    found = bucket.get("k", limit=9, known_tag=rested.tag)
    assert isinstance(found, StoredObject)
    assert found.data == b"two"
    assert not bucket.replace("k", b"three", rested.tag)


def test_of_many_creators_and_replacers_one_wins_each_round(tmp_path: Path) -> None:
    buckets = [FolderBucket(tmp_path, url="r") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for number in range(10):
            key = f"k/{number}"
            assert sum(pool.map(lambda b, key=key: b.create(key, os.urandom(9)), buckets)) == 1
            found = buckets[0].get(key, limit=9)
            assert isinstance(found, StoredObject)
            tag = found.tag
            won = pool.map(lambda b, key=key, tag=tag: b.replace(key, os.urandom(9), tag), buckets)
            assert sum(won) == 1


@posix
def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    bucket = FolderBucket(tmp_path, url="r")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    begun = time.monotonic()
    for key in ("pipe", "folder", "loop", "zero"):
        with pytest.raises(RegistryError):
            bucket.get(key, limit=10)
    assert time.monotonic() - begun < 5
    (tmp_path / "file").write_bytes(b"x")
    assert bucket.get("file/below", limit=9) is None


def test_files_larger_than_may_be_are_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(RegistryError, match="1,099,511,627,776 bytes where at most 10 belong"):
        FolderBucket(tmp_path, url="r").get("huge", limit=10)


@posix
def test_a_lock_goes_with_the_process_that_held_it(tmp_path: Path) -> None:
    bucket = FolderBucket(tmp_path, url="r")
    bucket.create("k", b"one")
    found = bucket.get("k", limit=9)
    assert isinstance(found, StoredObject)
    text = (
        "import filelock, time; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); "
        "print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(program(text, str(tmp_path / ".lock")), stdout=subprocess.PIPE, cwd=ROOT) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"held\n"
        killer = subprocess.Popen(["sh", "-c", f"sleep 0.4; kill -9 {run.pid}"])
        begun = time.monotonic()
        assert bucket.replace("k", b"two", found.tag)
        assert 0.2 < time.monotonic() - begun < 20
        killer.wait()


def test_half_written_files_of_the_dead_are_swept_away(tmp_path: Path) -> None:
    bucket = FolderBucket(tmp_path, url="r")
    bucket.create("a/b", b"one")
    old, young = tmp_path / "a" / ".c.1.tmp", tmp_path / "a" / ".c.2.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    bucket.create("a/d", b"two")
    assert not old.exists()
    assert young.exists()
