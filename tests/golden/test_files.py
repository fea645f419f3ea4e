"""Files of format 1 are read as what they are, and written again to the byte."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.golden import reading
from tests.golden.commands import COMPOSITIONS, JSON, PICTURES
from tests.golden.keys import CASES, keys_of
from tests.golden.place import GOLDEN, golden_json

ARTIFACTS = sorted((GOLDEN / "store" / "artifacts").rglob("*.safetensors"))
BLOBS = sorted((GOLDEN / "registry" / "blobs").glob("*/*"))
LOCKFILES = sorted(GOLDEN.glob("*/perfusion.lock"))
INDEXES = sorted((GOLDEN / "registry" / "index").rglob("*.jsonl"))
DRAWN = sorted((GOLDEN / "pictures").rglob("*.png"))
COMPOSED = sorted((GOLDEN / "compositions").glob("*.json"))
PACKS = ("author/recipes/tour.toml", "team/recipes/voyage.toml")


def stem(path: Path) -> str:
    return path.stem[:12]


def same(now: Any, then: Any) -> None:
    """Compare as JSON text, where even the order of keys counts."""
    assert json.dumps(now, indent=1, ensure_ascii=False) == json.dumps(then, indent=1, ensure_ascii=False)


def test_nothing_is_missing() -> None:
    assert [path.stem for path in ARTIFACTS] == sorted(golden_json("artifacts.json"))
    assert {path.stem for path in COMPOSED} == set(COMPOSITIONS)
    assert {path.stem for path in (GOLDEN / "said").iterdir()} == set(JSON)
    assert {path.stem for path in GOLDEN.glob("pictures/*.png")} == set(PICTURES)
    assert len(list(GOLDEN.glob("pictures/batch/*.png"))) == 3
    assert set(golden_json("keys.json")) == set(CASES)
    assert (len(ARTIFACTS), len(BLOBS), len(LOCKFILES), len(INDEXES)) == (10, 5, 3, 3)


def test_the_artifacts_are_of_every_kind() -> None:
    cards = [said["card"] for said in golden_json("artifacts.json").values()]
    assert {card["render"]["key_lock"] for card in cards} == {"local", "global"}
    assert {card["train"]["trained_keys"] for card in cards} == {True, False}
    assert {card["train"]["residual_rank"] for card in cards} == {0.0, 0.05, 0.1}
    assert "rowing boat" in {card["supercategory"] for card in cards}
    views = [said["views"] for said in golden_json("artifacts.json").values()]
    assert {(bool(view["output_keys"]), bool(view["residual"])) for view in views} == {
        (keys, residual) for keys in (False, True) for residual in (False, True)
    }


@pytest.mark.parametrize("path", ARTIFACTS, ids=stem)
def test_an_artifact(path: Path) -> None:
    assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem
    same(reading.artifact(path), golden_json("artifacts.json")[path.stem])
    assert reading.artifact_again(path) == path.read_bytes()


@pytest.mark.parametrize("path", LOCKFILES, ids=lambda path: path.parent.name)
def test_a_lockfile(path: Path, tmp_path: Path) -> None:
    name = f"{path.parent.name}/{path.name}"
    same(reading.lockfiles()[name], golden_json("lockfiles.json")[name])
    assert reading.lockfile_again(path, tmp_path / "again.lock") == path.read_bytes()


def test_manifests() -> None:
    same(reading.manifests(), golden_json("manifests.json"))


def test_recipes_their_resolved_options_and_packs() -> None:
    same(reading.recipes(), golden_json("recipes.json"))


def test_a_pack_is_published_and_locked_in_one_spelling() -> None:
    recipes = golden_json("recipes.json")
    locked = {
        block["name"]: block["sha256"]
        for lock in golden_json("lockfiles.json").values()
        for block in lock["concepts"]
        if block["kind"] == "pack"
    }
    digests = {
        Path(name).stem: hashlib.sha256(recipes[name]["published"].encode()).hexdigest() for name in PACKS
    }
    assert digests == locked


@pytest.mark.parametrize("path", INDEXES, ids=stem)
def test_an_index_its_chain_and_its_signatures(path: Path) -> None:
    now = reading.index()[path.stem]
    same(now, golden_json("index.json")[path.stem])
    assert [one["signed"] for one in now["listings"]] == [path.stem != "dog"] * len(now["listings"])
    assert reading.index_again(path) == path.read_bytes()


def test_the_bear_has_a_history() -> None:
    lines = (GOLDEN / "registry" / "index" / "be" / "bear.jsonl").read_text().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert events == ["publish", "publish", "publish", "yank", "yank", "unyank"]
    listings = reading.index()["bear"]["listings"]
    assert [(one["release"]["version"], one["yanked"], one["reason"]) for one in listings] == [
        ("1.0.0", False, ""),
        ("1.1.0", True, "a wrong ear"),
        ("2.0.0", False, ""),
    ]


def test_the_blobs_are_what_the_releases_say() -> None:
    told = {
        one["release"]["sha256"]: one["release"]["size"]
        for said in golden_json("index.json").values()
        for one in said["listings"]
    }
    assert {hashlib.sha256(path.read_bytes()).hexdigest(): path.stat().st_size for path in BLOBS} == told


def test_a_covariance(tmp_path: Path) -> None:
    same(reading.covariance(), golden_json("covariance.json"))
    again = reading.covariance_again(tmp_path / "C.safetensors")
    assert again == (GOLDEN / "C.safetensors").read_bytes()


@pytest.mark.parametrize("path", COMPOSED, ids=lambda path: path.stem)
def test_a_composition(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    fields, again = reading.composition(path)
    same(fields, json.loads(text))
    assert again == text


@pytest.mark.parametrize("path", DRAWN, ids=lambda path: path.stem)
def test_a_picture_and_its_record(path: Path) -> None:
    name = path.relative_to(GOLDEN).as_posix()
    same(reading.records()[name], golden_json("records.json")[name])
    with Image.open(path) as image:
        chunks = dict(image.text)
    assert chunks.pop("perf") == reading.record_again(path)
    assert chunks == {
        "Description": golden_json("records.json")[name]["composition"]["prompt"],
        "Software": "perf 0.1.0",
    }


def test_the_mark_of_a_sheet() -> None:
    mark = reading.sheet_mark_of(sorted((GOLDEN / "pictures" / "batch").iterdir()))
    assert mark == (GOLDEN / "sheet.txt").read_text().strip()


@pytest.mark.parametrize("name", CASES)
def test_keys(name: str) -> None:
    assert keys_of(CASES[name]) == golden_json("keys.json")[name]


def test_every_ingredient_has_its_part_in_a_key() -> None:
    keys = golden_json("keys.json")
    default = keys["defaults"]
    names_of_files = {"concept.images", "concept.masks"}
    assert {name for name, key in keys.items() if key["build"] == default["build"]} == {
        "defaults",
        *names_of_files,
    }
    trained = {
        name
        for name in CASES
        if not name.startswith(("render.", "concept.")) and name not in ("card_render", "base_licence")
    }
    assert {name for name, key in keys.items() if key["training"] != default["training"]} == (
        trained - {"defaults"} | {"concept.supercategory"}
    )
