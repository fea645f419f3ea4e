"""The JSON Schemas: current, valid, and of one mind with the models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tomli

from perfusion_registry.artifact import card_fields
from perfusion_registry.operations.schemas import MODELS, text_of
from perfusion_registry.recipe import MANIFEST_NAME
from perfusion_registry.recipe.lockfile_text import dump_lockfile
from perfusion_registry.recipe.schemas import schema_file
from tests.artifact.samples import card
from tests.recipe.test_lockfile import lock

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "schemas"

RECIPE = """\
[concept]
name = "teddy"
version = "1.0.0"
supercategory = "teddy"
images = ["teddy/*.png"]
licence = "CC-BY-4.0"
authors = ["A. N. Owner"]
[train]
bias = 1
mask = "files"
templates = ["a photo of a {}"]
[render]
key_lock = "global"
"""

MANIFEST = """\
[project]
name = "tea"
base = "storybook"
[concepts]
teddy = { recipe = "recipes/teddy.toml" }
hugsy = { version = ">=1.2,<2", registry = "studio" }
[registries]
studio = "https://example.org"
[scenes.sailing]
prompt = "A teddy* sailing"
gates = { teddy = { bias = 0.55, temperature = 0.15 } }
"""


def validator(name: str) -> Any:
    return jsonschema.Draft202012Validator(json.loads(text_of(name)))


def example(name: str) -> dict[str, Any]:
    texts = {"recipe": RECIPE, "manifest": MANIFEST, "lockfile": dump_lockfile(lock("bear", "cat"))}
    return tomli.loads(texts[name])


@pytest.mark.parametrize("name", MODELS)
def test_the_committed_schema_is_current_and_valid(name: str) -> None:
    text = (COMMITTED / schema_file(name)).read_text(encoding="utf-8")
    assert text == text_of(name), "run: python -m perfusion_registry.operations.schemas schemas"
    jsonschema.Draft202012Validator.check_schema(json.loads(text))


def test_no_schema_is_left_of_a_format_that_is_gone() -> None:
    assert {path.name for path in COMMITTED.iterdir()} == {schema_file(name) for name in MODELS}


@pytest.mark.parametrize("name", ["recipe", "manifest", "lockfile"])
def test_a_whole_example_is_valid_and_a_mistake_is_not(name: str) -> None:
    data = example(name)
    validator(name).validate(data)
    for table in data.values():
        if isinstance(table, dict) and name != "manifest":
            table["misspelt"] = 1
            assert not validator(name).is_valid(data)
            del table["misspelt"]
    assert not validator(name).is_valid({**data, "misspelt": 1})


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("train", "bias", -1),
        ("train", "mask", "magic"),
        ("train", "templates", ["none"]),
        ("concept", "name", "A"),
    ],
)
def test_the_schema_refuses_what_the_model_refuses(table: str, key: str, value: Any) -> None:
    data = example("recipe")
    data[table][key] = value
    assert not validator("recipe").is_valid(data)


def test_the_card_in_an_artifact_is_valid() -> None:
    validator("concept-card").validate(card_fields(card()).model_dump(mode="json", exclude_none=True))


def test_the_projects_own_files_are_valid() -> None:
    for path in ROOT.glob("recipes/*.toml"):
        recipe = tomli.loads(path.read_text(encoding="utf-8"))
        validator("pack" if "pack" in recipe else "recipe").validate(recipe)
    if (ROOT / MANIFEST_NAME).exists():
        validator("manifest").validate(tomli.loads((ROOT / MANIFEST_NAME).read_text(encoding="utf-8")))
