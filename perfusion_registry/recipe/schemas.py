"""The JSON Schemas of every file format, generated from the models.

`python -m perfusion_registry.recipe.schemas FOLDER` writes them.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from perfusion_registry.recipe.writing import replace_text

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMAS = {
    "manifest": "perfusion_registry.recipe.manifest:Manifest",
    "recipe": "perfusion_registry.recipe.recipe:Recipe",
    "pack": "perfusion_registry.recipe.pack:Pack",
    "lockfile": "perfusion_registry.recipe.lockfile:Lockfile",
    "concept-card": "perfusion_registry.artifact.card:ConceptCard",
    "index": "perfusion_registry.registries.index:IndexLine",
    "composition": "perfusion_registry.compose.composition:Composition",
    "metadata": "perfusion_registry.cli.description:ProjectMetadata",
    "suite": "perfusion_registry.evaluate.suite:Suite",
    "evaluation": "perfusion_registry.evaluate.results:Results",
    "output": "perfusion_registry.cli.outputs:Output",
}
"""Schema name -> where its model is; looked up by name, since most models live in rooms below this one."""


class _TomlSchema(GenerateJsonSchema):
    """TOML has no null: an optional key is one that may be left out."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        generated = super().default_schema(schema)
        if generated.get("default", ...) is None:
            del generated["default"]
        return generated


def schema_names() -> list[str]:
    """The names of the schemas whose models exist."""
    return [name for name, place in SCHEMAS.items() if find_spec(place.split(":")[0])]


def schema_file(name: str) -> str:
    """The file name of a schema."""
    return f"{name}.schema.json"


def schema_text(name: str) -> str:
    """The JSON Schema of one file format as text with a final newline."""
    generator = (
        _TomlSchema if name in ("manifest", "recipe", "pack", "lockfile", "suite") else GenerateJsonSchema
    )
    module, model = SCHEMAS[name].split(":")
    loaded: type[BaseModel] = getattr(import_module(module), model)
    schema = loaded.model_json_schema(by_alias=True, schema_generator=generator)
    return json.dumps({"$schema": DIALECT, **schema}, indent=2, ensure_ascii=False) + "\n"


def write_schemas(folder: Path) -> list[str]:
    """Write every schema into `folder`; the names of those that changed."""
    folder.mkdir(parents=True, exist_ok=True)
    return [name for name in schema_names() if replace_text(folder / schema_file(name), schema_text(name))]


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
