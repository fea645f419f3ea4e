"""What machines share: bytes that are what their hashes say, the first result, the newest checkpoint."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from perfusion_registry.artifact import Store
from perfusion_registry.cluster import shared_store
from perfusion_registry.cluster.shared_store import SharedStore, open_bucket
from perfusion_registry.errors import PerfError

TRAINING, RECIPE = "a" * 64, "b" * 64


def built(folder: Path, data: bytes) -> Store:
    """A machine's store that has built these bytes."""
    store = Store(folder)
    sha256 = store.put(data)
    store.put_sheet(sha256, b"a sheet")
    for digest in (TRAINING, RECIPE):
        store.record(digest, sha256)
    return store


def test_what_one_machine_gives_another_has(tmp_path: Path) -> None:
    shared = SharedStore(str(tmp_path / "shared"))
    empty = Store(tmp_path / "b")
    assert not shared.fetch((TRAINING, RECIPE), empty)
    assert shared.give((TRAINING, RECIPE), built(tmp_path / "a", b"teddy"))
    assert shared.fetch((TRAINING, RECIPE), empty)
    sha256 = hashlib.sha256(b"teddy").hexdigest()
    assert empty.lookup(RECIPE) == empty.lookup(TRAINING) == sha256
    assert empty.get(sha256) == b"teddy"
    assert empty.sheet_path(sha256).read_bytes() == b"a sheet"


def test_of_two_results_the_first_one_stays(tmp_path: Path) -> None:
    shared = SharedStore(str(tmp_path / "shared"))
    first, second = built(tmp_path / "a", b"first"), built(tmp_path / "b", b"second")
    assert shared.give((TRAINING, RECIPE), first)
    assert shared.give((TRAINING, RECIPE), first)
    assert not shared.give((TRAINING, RECIPE), second)
    assert shared.fetch((TRAINING, RECIPE), second)
    assert second.lookup(RECIPE) == first.lookup(RECIPE)


def test_of_two_files_that_a_task_made_the_first_one_stays(tmp_path: Path) -> None:
    shared, mine, theirs = SharedStore(str(tmp_path / "shared")), tmp_path / "mine", tmp_path / "theirs"
    mine.write_bytes(b"1" * 100)
    theirs.write_bytes(b"2" * 100)
    assert not shared.fetch_result(RECIPE, tmp_path / "out")
    assert shared.give_result(RECIPE, mine)
    assert shared.give_result(RECIPE, mine)
    assert not shared.give_result(RECIPE, theirs)
    assert shared.fetch_result(RECIPE, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == mine.read_bytes()


def test_a_file_that_is_gone_is_made_again_and_a_damaged_record_is_refused(tmp_path: Path) -> None:
    shared, mine = SharedStore(str(tmp_path / "shared")), tmp_path / "mine"
    mine.write_bytes(b"1" * 100)
    shared.give_result(RECIPE, mine)
    shutil.rmtree(tmp_path / "shared" / "files")
    assert not shared.fetch_result(RECIPE, tmp_path / "out")
    assert shared.give_result(RECIPE, mine)
    assert shared.fetch_result(RECIPE, tmp_path / "out")
    (record,) = (tmp_path / "shared" / "results").glob("*/*")
    record.chmod(0o644)
    record.write_text("nonsense\n")
    with pytest.raises(PerfError, match="record in the shared store is damaged"):
        shared.fetch_result(RECIPE, tmp_path / "out")


def test_a_file_that_is_gone_gives_way_to_another(tmp_path: Path) -> None:
    """As of a machine whose processor rounds otherwise."""
    shared, mine, theirs = SharedStore(str(tmp_path / "shared")), tmp_path / "mine", tmp_path / "theirs"
    mine.write_bytes(b"1" * 100)
    theirs.write_bytes(b"2" * 100)
    assert shared.give_result(RECIPE, theirs)
    shutil.rmtree(tmp_path / "shared" / "files")
    assert shared.give_result(RECIPE, mine)
    assert shared.fetch_result(RECIPE, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == mine.read_bytes()
    assert not shared.give_result(RECIPE, theirs)


def test_processes_of_one_machine_fetch_a_file_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, mine, out = SharedStore(str(tmp_path / "shared")), tmp_path / "mine", tmp_path / "there" / "out"
    mine.write_bytes(bytes(range(250)) * 1000)
    shared.give_result(RECIPE, mine)
    together, stream = Barrier(3), shared._bucket.stream

    def slow(key: str, *, limit: int) -> Iterator[bytes]:
        data = b"".join(stream(key, limit=limit) or ())
        for half in (data[: len(data) // 2], data[len(data) // 2 :]):
            together.wait(20)
            yield half

    monkeypatch.setattr(shared._bucket, "stream", slow)
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(shared.fetch_result, RECIPE, out) for _ in range(3)]
        assert [one.result() for one in asked] == [True] * 3
    assert out.read_bytes() == mine.read_bytes()
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_order_may_be_larger_than_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_store, "PIECE", 100)
    shared = SharedStore(str(tmp_path / "shared"))
    for size in (0, 100, 250):
        data = bytes(range(250))[:size]
        assert shared.get_bytes(shared.put_bytes(data)) == data


def test_damaged_bytes_are_refused(tmp_path: Path) -> None:
    shared = SharedStore(str(tmp_path / "shared"))
    shared.give((TRAINING, RECIPE), built(tmp_path / "a", b"teddy"))
    (artifact,) = (tmp_path / "shared" / "artifacts").glob("*/*")
    artifact.chmod(0o644)
    artifact.write_bytes(b"tedyd")
    with pytest.raises(PerfError, match="damaged"):
        shared.fetch((TRAINING, RECIPE), Store(tmp_path / "b"))


def test_a_checkpoint_is_the_newest_until_all_is_done(tmp_path: Path) -> None:
    shared = SharedStore(str(tmp_path / "shared"))
    shared.put_checkpoint(TRAINING, b"")
    assert shared.checkpoint(TRAINING) is None
    for data in (b"step 5", b"step 10"):
        shared.put_checkpoint(TRAINING, data)
        assert SharedStore(str(tmp_path / "shared")).checkpoint(TRAINING) == data
    shared.put_checkpoint(TRAINING, b"")
    assert shared.checkpoint(TRAINING) is None


@pytest.mark.parametrize("size", [0, 1, 100, 101, 250])
def test_files_travel_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(shared_store, "PIECE", 100)
    shared = SharedStore(str(tmp_path / "shared"))
    path, out = tmp_path / "weights", tmp_path / "there" / "weights"
    path.write_bytes(bytes(range(251))[:size])
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    for _ in range(2):
        shared.put_file(path, sha256)
    shared.get_file(sha256, size, out)
    assert out.read_bytes() == path.read_bytes()
    with pytest.raises(PerfError, match="does not have"):
        shared.get_file("c" * 64, size, tmp_path / "other")
    assert not list((tmp_path / "there").glob(".*"))


def test_an_order_is_what_its_hash_says(tmp_path: Path) -> None:
    shared = SharedStore(str(tmp_path / "shared"))
    sha256 = shared.put_bytes(b"order")
    assert shared.get_bytes(sha256) == b"order"
    (piece,) = (tmp_path / "shared" / "files").glob("*/*/0")
    piece.chmod(0o644)
    piece.write_bytes(b"other")
    with pytest.raises(PerfError, match="does not have"):
        shared.get_bytes(sha256)


def test_what_is_no_bucket_is_refused() -> None:
    with pytest.raises(PerfError, match="in a folder or in S3"):
        open_bucket("oci://registry.example/studio")
