"""What commands do with the files of format 1: a place as people have it, and today's code in it."""

from __future__ import annotations

import json
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.golden import reading
from tests.golden.commands import BATCH, COMPOSITIONS, JSON, PICTURES
from tests.golden.place import GOLDEN, Said, assemble, golden_json, perf, portable

LEVELS = 4  # of 255: what another processor's rounding may do to a pixel
PARTS = 1e-3  # of a number that is computed anew
FP32 = ("--dtype", "fp32")  # what the goldens were made with; processors with matrix units prefer bf16


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden place, in which every command leaves what it leaves."""
    return assemble(tmp_path_factory.mktemp("place").resolve())


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A golden place of a test's own."""
    return assemble(tmp_path.resolve())


@pytest.fixture(scope="module")
def said(place: Path) -> dict[str, Said]:
    """What the commands of `JSON` say, one after the other in one place."""
    return {name: perf(place, project, *arguments, "--json") for name, (project, *arguments) in JSON.items()}


@cache
def embedded_digest() -> str:
    """The digest of the base that this perf brings along."""
    from perfusion_registry.base import describe_base

    return describe_base("storybook").digest


def as_then(project: str) -> None:
    """Skip what was said of the embedded base once there is another edition of it."""
    locked = golden_json("lockfiles.json")["home/perfusion.lock"]["base"]["digest"]
    if project == "home" and embedded_digest() != locked:
        pytest.skip("the embedded base is another edition than that of the goldens")


def alike(now: Any, then: Any, at: str = "") -> None:
    """The same keys in the same order, the same texts and whole numbers; other numbers nearly."""
    if isinstance(then, dict):
        assert isinstance(now, dict), at
        assert list(now) == list(then), at
        for key in then:
            alike(now[key], then[key], f"{at}.{key}")
    elif isinstance(then, list):
        assert isinstance(now, list), at
        assert len(now) == len(then), at
        for number, (one, other) in enumerate(zip(now, then, strict=True)):
            alike(one, other, f"{at}[{number}]")
    elif isinstance(then, float):
        assert isinstance(now, float), at
        assert now == pytest.approx(then, rel=PARTS, abs=PARTS), at
    else:
        assert type(now) is type(then), at
        assert now == then, at


ADDED = ("method", "render", "local_relative_bias", "global_relative_bias")
"""Keys that `info` has printed since format 2, and `explain --presets` since presets are relative; within one
version keys are only added."""

PRESETS = {
    "a-preset": ('"bias": 0.55', '"relative_bias": 0.55'),
    "a-scene": ('"bias": 0.675', '"relative_bias": 0.85'),
    "a-scene-with-a-prompt": ('"bias": 0.675', '"relative_bias": 0.85'),
}
"""What a preset of a prompt or a scene was then and is now."""

RECIPE_PRESET = ('preset = "faithful"', "bias = 0.4\ntemperature = 0.15")


def without_added(now: Any, then: Any) -> Any:
    """What is printed now, without the added keys that were not printed then."""
    if isinstance(now, dict) and isinstance(then, dict):
        return {
            key: without_added(value, then.get(key))
            for key, value in now.items()
            if key in then or key not in ADDED
        }
    if isinstance(now, list) and isinstance(then, list) and len(now) == len(then):
        return [without_added(one, other) for one, other in zip(now, then, strict=True)]
    return now


@pytest.mark.parametrize("name", JSON)
def test_a_command_prints_the_json_that_it_printed(name: str, said: dict[str, Said], place: Path) -> None:
    as_then(JSON[name][0])
    then = golden_json(f"said/{name}.json")
    out = reading.parsed(portable(said[name].out, place))
    if name == "explain-presets":  # the middle of the paper's range is no longer what it stands for
        then["out"]["presets"][1]["meaning"] = "between both"
    if name == "list-team":  # the supercategory of what was fetched was not said then
        for row, before in zip(out["concepts"], then["out"]["concepts"], strict=True):
            before["supercategory"] = before["supercategory"] or row["supercategory"]
            assert row["supercategory"] or row["state"] in ("scene pack", "to fetch"), row
    for value in (out, then["out"]):
        value |= {key: "of then or now" for key in ("perf", "seconds") if key in value}
    assert said[name].code == then["code"], said[name].err
    if JSON[name][1] == "explain":  # it computes
        out = without_added(out, then["out"])
        alike(out, then["out"])
    else:
        if JSON[name][1] == "info":
            out = without_added(out, then["out"])
        assert json.dumps(out, indent=1) == json.dumps(then["out"], indent=1)


def test_a_vendored_folder_has_the_same_files(said: dict[str, Said], place: Path) -> None:
    assert said["vendor"].code == 0
    assert reading.tree(place / "team" / "vendor") == golden_json("vendored.json")


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_a_prompt_is_composed_as_it_was(name: str, place: Path, said: dict[str, Said]) -> None:
    project, *arguments = COMPOSITIONS[name]
    as_then(project)
    now = perf(place, project, "compose", *arguments, "--json")
    assert now.code == 0, now.err
    then = (GOLDEN / "compositions" / f"{name}.json").read_text(encoding="utf-8")
    assert now.out == then.replace(*PRESETS.get(name, ("", "")))


def test_old_bytes_need_no_training(fresh: Path) -> None:
    """The store's records are by build key: were a key another, there would be something to build."""
    for project in ("author", "team"):
        now = perf(fresh, project, "build", "--dry-run", "--json")
        assert json.loads(now.out)["needed"] == [], now.out
        assert perf(fresh, project, "lock", "--check").code == 0


@pytest.mark.parametrize("project", ["author", "team", "home"])
def test_the_same_inputs_are_locked_to_the_same_bytes(project: str, fresh: Path) -> None:
    as_then(project)
    lockfile = fresh / project / "perfusion.lock"
    lockfile.unlink()
    for path in (fresh / project / "recipes").glob("pot.toml"):  # a preset of a recipe was these numbers then
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(*RECIPE_PRESET), encoding="utf-8")
    now = perf(fresh, project, "lock")
    assert now.code == 0, now.err
    assert lockfile.read_bytes() == (GOLDEN / project / "perfusion.lock").read_bytes()


def test_another_card_is_written_over_old_tensors(fresh: Path) -> None:
    """The store's records are by training key as well: of another version only the card is new."""
    then = {said["card"]["name"]: said["tensors"] for said in golden_json("artifacts.json").values()}
    for name in ("bear", "boat", "cat", "dog", "hat", "pot"):
        recipe = fresh / "author" / "recipes" / f"{name}.toml"
        text = re.sub('version = ".*"', 'version = "3.0.0"', recipe.read_text(encoding="utf-8"))
        recipe.write_text(text, encoding="utf-8")
    now = perf(fresh, "author", "build", "--json")
    assert now.code == 0, now.err
    rows = json.loads(now.out)["built"]
    assert len(rows) == 6
    for row in rows:
        sha256 = row["sha256"]
        made = reading.artifact(fresh / "store" / "artifacts" / sha256[:2] / f"{sha256}.safetensors")
        assert made["card"]["version"] == "3.0.0"
        assert made["tensors"] == then[row["name"]]


def test_a_release_is_published_and_signed_as_it_was(fresh: Path) -> None:
    shutil.rmtree(fresh / "registry")
    for arguments in (("bear", "--sign"), ("dog",), ("tour", "--sign")):
        now = perf(fresh, "author", "publish", *arguments)
        assert now.code == 0, now.err
    for name in ("bear", "dog", "tour"):
        path = Path("registry") / "index" / name[:2] / f"{name}.jsonl"
        (line,) = (fresh / path).read_text(encoding="utf-8").splitlines()
        text = line[line.index('"release":') : line.rindex(',"chain":')]
        assert text in (GOLDEN / path).read_text(encoding="utf-8")
    blobs = reading.tree(fresh / "registry" / "blobs")
    assert blobs.items() <= reading.tree(GOLDEN / "registry" / "blobs").items()
    assert len(blobs) == 3


def redrawn(place: Path, picture: Path) -> tuple[Path, int]:
    """A picture drawn again from its own record, and by how many levels a pixel differs at most."""
    again = place / f"{picture.parent.name}-{picture.name}"
    now = perf(place, "author", "render", "--from", str(picture), "--out", str(again))
    assert now.code == 0, now.err
    before, after = (np.asarray(Image.open(path)).astype(int) for path in (picture, again))
    assert before.shape == after.shape
    return again, int(np.abs(before - after).max())


def test_old_pictures_are_drawn_again(place: Path) -> None:
    for name in ("none.png", "one.png", "two.png"):
        _, levels = redrawn(place, GOLDEN / "pictures" / name)
        assert levels <= LEVELS, name


def test_the_same_prompt_makes_the_same_record_and_picture(place: Path) -> None:
    records = golden_json("records.json")
    for name, (project, *arguments) in PICTURES.items():
        out = place / f"{name}.png"
        assert perf(place, project, "render", *arguments, *FP32, "--out", str(out)).code == 0
        check_picture(out, GOLDEN / "pictures" / f"{name}.png", records[f"pictures/{name}.png"])
    project, *arguments = BATCH
    sheet = place / "sheet.png"
    out = ("--out", str(place / "batch"), "--sheet", str(sheet))
    now = perf(place, project, "render", *arguments, *FP32, *out)
    assert now.code == 0, now.err
    for picture in sorted((GOLDEN / "pictures" / "batch").iterdir()):
        record = records[f"pictures/batch/{picture.name}"]
        check_picture(place / "batch" / picture.name, picture, record)
    assert reading.sheet_mark(sheet) == (GOLDEN / "sheet.txt").read_text().strip()


def check_picture(now: Path, then: Path, record: dict[str, Any]) -> None:
    versions = ("perf", "libraries")
    said = json.loads(reading.record_again(now))
    assert {key: said[key] for key in said if key not in versions} == {
        key: record[key] for key in record if key not in versions
    }
    pixels = [np.asarray(Image.open(path)).astype(int) for path in (now, then)]
    assert np.abs(pixels[0] - pixels[1]).max() <= LEVELS, then.name


def test_training_again_makes_the_same_concepts(fresh: Path) -> None:
    """The same bytes on the processor of the goldens, nearly the same tensors on another."""
    now = perf(fresh, "author", "verify", "--rebuild", "boat", "cat", "dog", "hat", *FP32, "--json")
    assert now.code == 0, now.out + now.err
    assert {row["name"] for row in json.loads(now.out)["rebuilt"]} == {"boat", "cat", "dog", "hat"}
