"""Files of format 2 are read as what they are, and written again to the byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.golden import reading
from tests.golden.reading2 import FORMAT2, READERS, blobs


@pytest.mark.parametrize("name", READERS)
def test_files_say_what_they_said(name: str) -> None:
    then = json.loads((FORMAT2 / name).read_text(encoding="utf-8"))
    assert json.dumps(READERS[name](), indent=1) == json.dumps(then, indent=1)


def test_the_goldens_are_of_every_kind() -> None:
    said = {name: json.loads((FORMAT2 / name).read_text(encoding="utf-8")) for name in READERS}
    cards = {name: one["card"] for name, one in said["artifacts.json"].items()}
    assert {name: (card["schema_version"], card["method"]) for name, card in cards.items()} == {
        "bear": (2, "perfusion"),
        "dog": (2, "perfusion"),
        "word": (2, "textual-inversion"),
    }
    kinds = {name.split(".")[0] for name in said["artifacts.json"]["dog"]["tensors"]}
    assert kinds >= {"embedding", "target_input", "offset", "output_key", "residual_down", "residual_up"}
    assert said["lockfile.json"]["version"] == 2
    releases = [one["release"] for entry in said["index.json"].values() for one in entry["listings"]]
    assert {release["format"] for release in releases if release["kind"] == "concept"} == {2}
    signed = {name: entry["listings"][0]["signed"] for name, entry in said["index.json"].items()}
    assert signed == {"bear": True, "dog": False, "tour": True, "word": True}
    assert said["compositions.json"]["two"]["schema_version"] == 2


def test_they_are_written_again_to_the_byte(tmp_path: Path) -> None:
    for path in blobs():
        assert reading.artifact_again(path) == path.read_bytes()
    lock = FORMAT2 / "author" / "perfusion.lock"
    assert reading.lockfile_again(lock, tmp_path / "again.lock") == lock.read_bytes()
    for path in (FORMAT2 / "registry" / "index").glob("*/*.jsonl"):
        assert reading.index_again(path) == path.read_bytes()
    for name in ("two", "three"):
        text = (FORMAT2 / f"{name}.json").read_text(encoding="utf-8")
        assert reading.composition(FORMAT2 / f"{name}.json")[1].strip() == text.strip()
    assert json.loads(reading.record_again(FORMAT2 / "two.png"))
