"""The comparison of two artifact files that the benchmark of behaviour rests on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from benchmarks.same_artifact import Names, card_differences, read_tensors, tensor_differences
from tests.golden.place import GOLDEN, golden_json

CARD = {"name": "bear", "covariance": "c", "train": {"steps": 4, "bias": 0.5}, "schema_version": 1}


def write(path: Path, tensors: dict[str, Any], card: dict[str, Any]) -> Path:
    save_file(
        {name: np.asarray(value) for name, value in tensors.items()}, path, {"concept": json.dumps(card)}
    )
    return path


def test_every_golden_is_itself_and_no_other() -> None:
    paths = sorted((GOLDEN / "store" / "artifacts").rglob("*.safetensors"))
    said = golden_json("artifacts.json")
    for path in paths:
        assert tensor_differences(path, path) == card_differences(path, path) == []
        assert sorted(read_tensors(path)[0]) == list(said[path.stem]["tensors"])
    names = {path: said[path.stem]["card"]["name"] for path in paths}
    for one in paths:
        for other in paths:
            assert bool(tensor_differences(one, other)) == (names[one] != names[other])
            assert bool(card_differences(one, other)) == (one != other)


def test_a_bit_a_shape_a_type_and_a_name_are_told(tmp_path: Path) -> None:
    value = np.arange(4, dtype="f2")
    before = write(tmp_path / "before", {"a": value, "b": value}, CARD)
    bit = value.copy()
    bit.view("u2")[2] ^= 1
    changes = {
        "a differs by": {"a": bit, "b": value},
        "a was float16 (4,) and is float32 (4,)": {"a": value.astype("f4"), "b": value},
        "a was float16 (4,) and is float16 (2, 2)": {"a": value.reshape(2, 2), "b": value},
        "b is missing": {"a": value},
        "c is new": {"a": value, "b": value, "c": value},
        "a differs by 0": {"a": value * np.asarray([-1, 1, 1, 1], "f2"), "b": value},  # -0 is not 0
    }
    for number, (told, tensors) in enumerate(changes.items()):
        (said,) = tensor_differences(before, write(tmp_path / str(number), tensors, CARD))
        assert said.startswith(told)


def test_a_field_a_type_and_a_key_are_told(tmp_path: Path) -> None:
    tensors = {"a": np.zeros(1)}
    before = write(tmp_path / "before", tensors, CARD)
    changes = {
        "train.steps was 4 and is 5": CARD | {"train": {"steps": 5, "bias": 0.5}},
        "train.steps was 4 and is 4.0": CARD | {"train": {"steps": 4.0, "bias": 0.5}},
        "train.bias is missing": CARD | {"train": {"steps": 4}},
        "consent is new: 'mine'": CARD | {"consent": "mine"},
    }
    for number, (told, card) in enumerate(changes.items()):
        assert card_differences(before, write(tmp_path / str(number), tensors, card)) == [told]


def test_other_names_and_offsets(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0)
    plain = {f"output.{layer}": numbers.standard_normal(64) for layer in ("up.1", "down.0")}
    learned = {name: value + 0.1 * numbers.standard_normal(64) for name, value in plain.items()}
    before = write(tmp_path / "before", {name: value.astype("f2") for name, value in learned.items()}, CARD)
    offsets = {
        name.replace("output.", "offset."): (learned[name] - plain[name]).astype("f2") for name in learned
    }
    card = {"name": "bear", "built": {"covariance": "c"}, "train": CARD["train"], "schema_version": 2}
    after = write(tmp_path / "after", offsets, card)
    said = {
        "tensors": {"output.": "offset."},
        "card": {"covariance": "built.covariance"},
        "new": ["schema_version"],
    }
    (tmp_path / "names.json").write_text(json.dumps(said))
    names = Names.read(tmp_path / "names.json")
    assert card_differences(before, after, names) == tensor_differences(before, after, names, plain) == []
    assert len(tensor_differences(before, after, names)) == 2
    assert len(tensor_differences(before, after)) == 4
    offsets["offset.up.1"][7] += np.float16(0.01)
    write(after, offsets, card)
    (told,) = tensor_differences(before, after, names, plain)
    assert told.startswith("output.up.1, as an offset, differs by 0.01")
