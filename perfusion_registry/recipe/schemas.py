"""JSON Schemas from the models of files, and those beside a project, for the completion and checks of
editors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from perfusion_registry.recipe.manifest import Manifest
from perfusion_registry.recipe.pack import Pack
from perfusion_registry.recipe.scene import SceneSettings, with_scenes
from perfusion_registry.recipe.writing import make_folder, replace_text

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_FOLDER = ".perf/schemas"


class TomlSchema(GenerateJsonSchema):
    """TOML has no null: an optional key is one that may be left out."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """The schema of what is there."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Without a default that cannot be written."""
        generated = super().default_schema(schema)
        if generated.get("default", ...) is None:
            del generated["default"]
        return generated


def schema_file(name: str) -> str:
    """The file name of a schema."""
    return f"{name}.schema.json"


def schema_text(model: type[BaseModel], *, toml: bool) -> str:
    """The JSON Schema of a file's model as text with a final newline. toml: whether the file is TOML."""
    generator = TomlSchema if toml else GenerateJsonSchema
    schema = model.model_json_schema(by_alias=True, schema_generator=generator)
    return json.dumps({"$schema": DIALECT, **schema}, indent=2, ensure_ascii=False) + "\n"


def edited_models(recipe: type[BaseModel], settings: type[SceneSettings]) -> dict[str, type[BaseModel]]:
    """The models of the files that people write, by the names of their schemas.

    recipe: that of recipes. settings: what scenes may set.
    """
    return {
        "manifest": with_scenes(Manifest, settings),
        "recipe": recipe,
        "pack": with_scenes(Pack, settings),
    }


def place_schemas(root: Path, models: Mapping[str, type[BaseModel]]) -> str:
    """The folder, relative to the project, of the schemas that its files point to; written if need be.

    models: as `edited_models` has them.
    """
    if all((root / "schemas" / schema_file(name)).is_file() for name in models):
        return "schemas"
    make_folder(root / _FOLDER)
    for name, model in models.items():
        replace_text(root / _FOLDER / schema_file(name), schema_text(model, toml=True))
    return _FOLDER
