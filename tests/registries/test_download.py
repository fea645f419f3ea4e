"""Downloads into the store: once, whole, or not at all."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfusion_registry.artifact import Store
from perfusion_registry.registries import Release, TransferError
from perfusion_registry.registries.download import ATTEMPTS, download
from tests.registries.samples import ROOT, folder_registry, program, release
from tests.registries.web import serving

SYNC = """
from perfusion_registry.artifact import Store
from perfusion_registry.registries.opening import open_registry
from perfusion_registry.registries.download import download
url, folder = sys.argv[1:]
registry = open_registry(url, name="x", root=Path("/"), cache=Path(folder))
for name in ("teddy", "cat", "pot"):
    for one in registry.versions(name):
        download(registry, one.release, Store(Path(folder)))
"""


def test_of_many_processes_with_one_cold_store_each_blob_is_fetched_once(tmp_path: Path) -> None:
    keeper = folder_registry(tmp_path / "registry")
    for name in ("teddy", "cat", "pot"):
        for minor in range(2):
            blob = f"{name}{minor}".encode() * 5000
            keeper.publish(release(f"1.{minor}", blob, name=name), blob)
    with serving(tmp_path / "registry") as web:
        text = program(SYNC, web.url, str(tmp_path / "store"))
        runs = [subprocess.Popen(text, stderr=subprocess.PIPE, cwd=ROOT) for _ in range(6)]
        assert [(run.communicate()[1], run.returncode) for run in runs] == [(b"", 0)] * 6
        blobs = [path for path in web.paths() if "/blobs/" in path]
    assert sorted(blobs) == sorted(set(blobs))
    assert len(blobs) == 6
    kept = list((tmp_path / "store" / "artifacts").rglob("*.safetensors"))
    assert len(kept) == 6
    assert all(Store(tmp_path / "store").has(path.stem) for path in kept)


class Hostile:
    """A registry whose blobs are as they come."""

    url = "somewhere"

    def __init__(self, *answers: list[bytes] | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    def blob(self, release: Release) -> Iterator[bytes]:
        self.asked += 1
        answer = self.answers[min(self.asked, len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        yield from answer


WRONG: list[list[bytes] | Exception] = [
    [],
    [b""],
    [b"bea"],
    [b"bear!"],
    [b"b", b"e", b"a", b"t"],
    [b"bear", b"bear"],
    TransferError("it broke"),
]


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_bytes_are_never_kept(tmp_path: Path, wrong: list[bytes] | Exception) -> None:
    store = Store(tmp_path)
    hostile = Hostile(wrong)
    with pytest.raises(TransferError, match=f"did not arrive in {ATTEMPTS} tries"):
        download(hostile, release(), store)  # type: ignore[arg-type]
    assert hostile.asked == ATTEMPTS
    assert not list(tmp_path.rglob("*.safetensors"))
    download(Hostile(wrong, [b"be", b"ar"]), release(), store)  # type: ignore[arg-type]
    assert store.get(release().sha256) == b"bear"


def test_endless_bytes_are_left_at_the_announced_size(tmp_path: Path) -> None:
    taken = [0]

    class Endless(Hostile):
        def blob(self, release: Release) -> Iterator[bytes]:
            while True:
                taken[0] += 1
                yield b"x"

    with pytest.raises(TransferError, match="more came than the 4 bytes"):
        download(Endless(), release(), Store(tmp_path))  # type: ignore[arg-type]
    assert taken[0] == 5 * ATTEMPTS


def test_what_the_store_has_is_not_fetched_and_what_is_damaged_there_is(tmp_path: Path) -> None:
    store = Store(tmp_path)
    honest = Hostile([b"bear"])
    for _ in range(2):
        download(honest, release(), store)  # type: ignore[arg-type]
    assert honest.asked == 1
    store.path(release().sha256).write_bytes(b"beat")
    download(honest, release(), store)  # type: ignore[arg-type]
    assert honest.asked == 2
    assert store.get(release().sha256) == b"bear"
