"""One lockfile of every format that was ever written: read, and written again to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfusion_registry.recipe import read_lockfile, write_lockfile
from perfusion_registry.recipe.lockfile import REVISIONS

GOLDEN = Path(__file__).parent / "golden"


def test_every_format_has_its_file() -> None:
    for version, revision in REVISIONS.items():
        assert (GOLDEN / f"version-{version}-revision-{revision}.lock").is_file()


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda path: path.stem)
def test_a_lockfile_of_any_format_is_read_and_kept_as_it_is(path: Path, tmp_path: Path) -> None:
    lock = read_lockfile(path)
    assert f"version-{lock.version}-revision-{lock.revision}" == path.stem
    write_lockfile(tmp_path / "again.lock", lock)
    assert (tmp_path / "again.lock").read_bytes() == path.read_bytes()


def test_version_1_says_all_that_it_can() -> None:
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


def test_version_2_says_all_that_it_can() -> None:
    lock = read_lockfile(GOLDEN / "version-2-revision-0.lock")
    assert lock.base is not None
    assert (lock.base.architecture, lock.base.prediction) == ("stable-diffusion", "epsilon")
    assert [file.part for file in lock.base.files] == [None, "vae"]
    assert [(block.name, block.method, dict(block.render)) for block in lock.concepts] == [
        ("bear", "perfusion", {"bias": 0.65, "key_lock": "local", "residual": 0.7, "temperature": 0.15}),
        ("ink", "lora", {"strength": 1, "text only": True}),
        ("oak", "textual-inversion", {}),
        ("tea-party", "perfusion", {}),
    ]


def test_revision_1_of_version_2_says_what_is_put_into_a_base() -> None:
    base = read_lockfile(GOLDEN / "version-2-revision-1.lock").base
    assert base is not None
    assert base.options is not None
    assert base.options.said == [
        *("clip_skip", "vae", "scorer", "lora", "embeddings"),
        *("steps", "guidance", "scheduler"),
    ]
    assert [(lora.file, lora.strength, lora.train) for lora in base.options.lora] == [
        ("loras/lcm.safetensors", 0.8, False)
    ]


def test_revision_2_of_version_2_says_which_controls_a_base_has() -> None:
    base = read_lockfile(GOLDEN / "version-2-revision-2.lock").base
    assert base is not None
    assert base.options is not None
    assert base.options.controls == {"canny": "controls/canny.safetensors", "depth": "./depth"}
    assert [file.path for file in base.files if file.part == "control"] == [
        "./depth/config.json",
        "controls/canny.safetensors",
    ]
