"""The store against real processes, kills, full and read-only disks."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perfusion_registry.artifact import Store
from perfusion_registry.cache_folder import CACHE_VARIABLE, cache_dir
from perfusion_registry.errors import PerfError
from perfusion_registry.reporter import Silent

ROOT = Path(__file__).parents[2]
DIGEST, OTHER = "1" * 64, "2" * 64
posix = pytest.mark.skipif(os.name != "posix", reason="signals and permissions of POSIX")


def program(text: str, *arguments: str) -> list[str]:
    head = "import sys, time; from pathlib import Path; from perfusion_registry.artifact import Store; "
    return [sys.executable, "-c", head + "store = Store(Path(sys.argv[1]))\n" + text, *arguments]


def test_bytes_are_found_by_their_hash(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert store.lookup(DIGEST) is None
    sha256 = store.put(b"bear")
    assert sha256 == hashlib.sha256(b"bear").hexdigest()
    assert store.get(sha256) == b"bear"
    assert store.path(sha256).read_bytes() == b"bear"
    store.record(DIGEST, sha256)
    assert store.lookup(DIGEST) == sha256
    assert store.lookup(OTHER) is None


def test_reading_alone_makes_no_folder(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert not store.has(DIGEST)
    with pytest.raises(PerfError, match="no artifact"):
        store.get(DIGEST)
    assert not store.root.exists()


def test_damaged_bytes_are_never_given_out_and_are_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    sha256 = store.put(b"bear")
    store.record(DIGEST, sha256)
    for damaged in (b"", b"bea", b"beat"):
        store.path(sha256).write_bytes(damaged)
        assert store.lookup(DIGEST) is None
        with pytest.raises(PerfError, match="damaged"):
            store.get(sha256)
    assert store.put(b"bear") == sha256
    assert store.get(sha256) == b"bear"


def test_damaged_records_are_no_records(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.record(DIGEST, store.put(b"bear"))
    (record,) = (tmp_path / "builds").rglob(DIGEST)
    for damaged in (b"", b"\xff" * 64, b"../../etc/passwd", b"a" * 10_000):
        record.write_bytes(damaged)
        assert store.lookup(DIGEST) is None


@pytest.mark.parametrize("digest", ["", "../" * 20, "/etc/passwd", "A" * 64, "1" * 63, "1" * 64 + "\n"])
def test_what_is_no_digest_names_no_path(tmp_path: Path, digest: str) -> None:
    store = Store(tmp_path)
    for use in (store.path, store.get, store.lookup, store.workspace, store.discard_workspace):
        with pytest.raises(PerfError, match="not a SHA-256"):
            use(digest)


def test_a_workspace_outlives_the_process_until_it_is_discarded(tmp_path: Path) -> None:
    subprocess.run(
        program(f"(store.workspace('{DIGEST}') / 'checkpoint').write_text('half')", str(tmp_path)),
        check=True,
        cwd=ROOT,
    )
    store = Store(tmp_path)
    assert (store.workspace(DIGEST) / "checkpoint").read_text() == "half"
    store.discard_workspace(DIGEST)
    assert list(store.workspace(DIGEST).iterdir()) == []


def test_the_place_of_the_store_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv(CACHE_VARIABLE)
    assert "perfusion-registry" in str(cache_dir())


@posix
def test_a_writer_that_is_killed_leaves_whole_artifacts_only(tmp_path: Path) -> None:
    endless = "for n in range(10**9): store.put(b'%d' % n * 20_000); print(n, flush=True)"
    for _ in range(3):
        with subprocess.Popen(program(endless, str(tmp_path)), stdout=subprocess.PIPE, cwd=ROOT) as writer:
            assert writer.stdout is not None
            for _ in range(20):
                writer.stdout.readline()
            writer.kill()
    store = Store(tmp_path)
    kept = list((tmp_path / "artifacts").rglob("*.safetensors"))
    assert len(kept) >= 19
    assert all(store.has(path.stem) for path in kept)


def test_writers_of_the_same_bytes_agree(tmp_path: Path) -> None:
    text = (
        "data = b'bear' * 50_000\n"
        "for _ in range(20):\n"
        "    sha = store.put(data)\n"
        "    store.record(sha, sha)\n"
        "    assert store.get(sha) == data and store.lookup(sha) == sha"
    )
    writers = [subprocess.Popen(program(text, str(tmp_path)), cwd=ROOT) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 2


class Warnings(Silent):
    def __init__(self) -> None:
        self.told: list[str] = []

    def warn(self, text: str) -> None:
        self.told.append(text)


@posix
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_build_waits_for_another_and_takes_over_when_it_dies(
    tmp_path: Path, number: signal.Signals
) -> None:
    text = f"with store.building('{DIGEST}', 'teddy'):\n    print('held', flush=True)\n    time.sleep(60)"
    store, warnings = Store(tmp_path), Warnings()
    with subprocess.Popen(
        program(text, str(tmp_path)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with store.building(OTHER, "cat", warnings):
            assert warnings.told == []
        killer = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -{number.value} {holder.pid}"])
        begun = time.monotonic()
        with store.building(DIGEST, "bunny", warnings):
            assert time.monotonic() - begun >= 0.3
            (told,) = warnings.told
            assert "another process is building the same as `bunny`, in this project or another" in told
            assert "teddy" not in told  # as the other project may call it
            assert CACHE_VARIABLE in told
        killer.wait()
        assert holder.wait() == -number  # it did not end by itself
    with store.building(DIGEST, "teddy", warnings):
        assert len(warnings.told) == 1


ATTEMPT = """
from perfusion_registry.errors import PerfError
import os
os.umask(0o022)
for attempt in (
    lambda: store.put(b'x' * 500_000),
    lambda: store.workspace('1' * 64) if sys.argv[2] == 'read-only' else store.put(b'y' * 500_000),
):
    try:
        attempt()
        print('written')
    except PerfError as error:
        print(str(error).replace(chr(10), ' | '))
print('left', sum(path.is_file() for path in store.root.rglob('*')))
"""


@posix
def test_a_full_disk_is_an_error_that_names_the_place_and_the_way_out(tmp_path: Path) -> None:
    command = f'mount -t tmpfs -o size=256k tmpfs "{tmp_path}" && exec "$@"'
    run = subprocess.run(
        ["unshare", "-rm", "sh", "-c", command, "sh", *program(ATTEMPT, str(tmp_path), "full")],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    if "unshare" in run.stderr or "mount" in run.stderr:
        pytest.skip("no file system of its own can be mounted here")
    first, second, left = run.stdout.strip().split("\n")
    for line in (first, second):
        assert "the disk is full" in line
        assert str(tmp_path) in line
        assert CACHE_VARIABLE in line
    assert left == "left 0"


@posix
def test_a_read_only_folder_is_an_error_that_names_the_place_and_the_way_out(tmp_path: Path) -> None:
    locked = tmp_path / "store"
    locked.mkdir()
    locked.chmod(0o555)
    tmp_path.chmod(0o755)
    command = program(ATTEMPT, str(locked), "read-only")
    if os.geteuid() == 0:  # root may write anywhere: see it from inside a read-only mount
        mount = f'mount --bind "{locked}" "{locked}" && mount -o remount,ro,bind "{locked}" && exec "$@"'
        command = ["unshare", "-m", "sh", "-c", mount, "sh", *command]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if "unshare" in run.stderr or "mount" in run.stderr:
        pytest.skip("nothing can be mounted read-only here")
    first, second, left = run.stdout.strip().split("\n")
    for line in (first, second):
        assert "permission denied" in line or "read-only" in line
        assert str(locked) in line
        assert CACHE_VARIABLE in line
    assert left == "left 0"
