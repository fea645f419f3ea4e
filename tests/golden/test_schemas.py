"""The JSON Schemas accept every golden file, and refuse in tables what the method does not have."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tomli
from safetensors import safe_open

from perfusion_registry.operations.schemas import text_of

HERE = Path(__file__).parent
FORMATS = (HERE / "format1", HERE / "format2")


def files() -> Iterator[tuple[str, str, Any]]:
    """Every golden file that has a schema: its name, the schema's, and what it says."""
    for path in (path for folder in FORMATS for path in sorted(folder.rglob("*")) if path.is_file()):
        where, data = str(path.relative_to(HERE)), path.read_bytes()
        if path.name == "perfusion.lock":
            yield where, "lockfile", tomli.loads(data.decode())
        elif path.parent.name == "recipes" and path.suffix == ".toml":
            said = tomli.loads(data.decode())
            yield where, "pack" if "pack" in said else "recipe", said
        elif path.parent.parent.name == "index" or "/index/" in where:
            for number, line in enumerate(data.decode().splitlines()):
                yield f"{where}:{number}", "index", json.loads(line)
        elif (path.suffix == ".safetensors" or "/blobs/" in where) and not data.startswith(b"[pack]"):
            card = card_of(path)
            if card is not None:
                yield where, "concept-card", card


def card_of(path: Path) -> Any:
    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get("concept")
    return None if text is None else json.loads(text)


FILES = list(files())
SCHEMAS = ("lockfile", "recipe", "pack", "index", "concept-card")


def validator(schema: str) -> Any:
    return jsonschema.Draft202012Validator(json.loads(text_of(schema)))


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_golden_file_is_valid(schema: str) -> None:
    said = [(where, data) for where, kind, data in FILES if kind == schema]
    assert said
    check = validator(schema)
    for where, data in said:
        assert [error.message for error in check.iter_errors(data)] == [], where


def test_there_are_goldens_of_several_methods_and_formats() -> None:
    cards = [data for _, kind, data in FILES if kind == "concept-card"]
    assert {card.get("schema_version", 1) for card in cards} == {1, 2}
    assert len({card.get("method", "perfusion") for card in cards}) > 1


def wrong(schema: str, table: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Golden files of format 2 with a key too many in a method's table, each with that file."""
    for where, kind, data in FILES:
        if kind != schema or "format2" not in where:
            continue
        changed = copy.deepcopy(data)
        holders = changed["concept"] if schema == "lockfile" else [changed]
        for holder in holders:
            if isinstance(holder.get(table), dict):
                holder[table]["misspelt"] = 1
                yield changed, holder
                break


@pytest.mark.parametrize(
    ("schema", "table"),
    [
        ("concept-card", "train"),
        ("concept-card", "render"),
        ("concept-card", "built"),
        ("recipe", "train"),
        ("lockfile", "render"),
    ],
)
def test_a_wrong_key_is_told_at_the_key_unless_nobody_knows_the_method(schema: str, table: str) -> None:
    check, tried = validator(schema), 0
    for data, holder in wrong(schema, table):
        tried += 1
        assert not check.is_valid(data)
        if schema == "recipe":
            found = [error for error in check.iter_errors(data) if list(error.path) == [table]]
            assert [error.validator for error in found] == ["additionalProperties"]
            data["concept"]["method"] = "unheard-of"
        else:
            holder["method"] = "unheard-of"
        assert check.is_valid(data)
    assert tried


RECIPE = {"name": "fog", "version": "1.0.0", "supercategory": "teddy", "images": ["fog/*.png"]}


@pytest.mark.parametrize(
    ("method", "train", "valid"),
    [
        ("residuals", {"rank": 0.1}, True),
        ("residuals", {"rank": 2}, False),
        ("residuals", {"bias": 0.5}, False),
        ("textual-inversion", {"learning_rate": 0.1}, True),
        ("textual-inversion", {"rank": 0.1}, False),
        ("perfusion", {"residual_rank": 0.1}, True),
        (None, {"rank": 0.1}, False),
        ("blend", {"patience": 3}, True),
    ],
)
def test_a_recipes_train_is_its_methods(method: str | None, train: dict[str, Any], valid: bool) -> None:
    concept = RECIPE | ({"method": method} if method else {})
    assert validator("recipe").is_valid({"concept": concept, "train": train}) == valid


def test_a_variants_train_is_its_methods() -> None:
    suite = {
        "name": "one",
        "title": "One",
        "concepts": [{"name": "fog", "group": "toys", "recipe": "fog.toml"}],
        "prompts": [{"name": "all", "templates": ["a {}"]}],
    }
    for method, train, valid in (
        ("rome", {"bias": 0.5}, True),
        ("rome", {"rank": 0.5}, False),
        ("residuals", {"rank": 0.5}, True),
        ("blend", {"patience": 3}, True),
    ):
        variant = {"name": "it", "method": method, "train": train}
        figures = [{"id": "1", "title": "One", "variants": [variant]}]
        assert validator("suite").is_valid({**suite, "figures": figures}) == valid, method
