"""One lockfile of every format that was ever written: read, and written again to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfusion_registry.recipe import read_lockfile, write_lockfile
from perfusion_registry.recipe.lockfile import FORMAT_REVISION, FORMAT_VERSION

GOLDEN = Path(__file__).parent / "golden"


def test_every_format_has_its_file() -> None:
    assert (GOLDEN / f"version-{FORMAT_VERSION}-revision-{FORMAT_REVISION}.lock").is_file()


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda path: path.stem)
def test_a_lockfile_of_any_format_is_read_and_kept_as_it_is(path: Path, tmp_path: Path) -> None:
    lock = read_lockfile(path)
    assert f"version-{lock.version}-revision-{lock.revision}" == path.stem
    write_lockfile(tmp_path / "again.lock", lock)
    assert (tmp_path / "again.lock").read_bytes() == path.read_bytes()


def test_the_newest_format_says_all_that_it_can() -> None:
    lock = read_lockfile(GOLDEN / "version-1-revision-1.lock")
    assert lock.base is not None
    assert (lock.base.repo, lock.base.revision) == ("owner/name", "a" * 40)
    assert [(block.name, block.kind, block.registry) for block in lock.concepts] == [
        ("bear", "concept", None),
        ("cat", "concept", None),
        ("tea-party", "pack", "../registry"),
        ("teddy", "concept", "https://studio.example/concepts"),
        ("voyage", "pack", None),
    ]
    pack = lock.concept("tea-party")
    assert pack is not None
    assert list(pack.requires) == ["cat", "teddy"]
