"""JSON Schemas from the models of files, and those beside a project, for the completion and checks of
editors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pydantic import AliasChoices, BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from perfusion_registry.recipe.manifest import Manifest
from perfusion_registry.recipe.pack import Pack
from perfusion_registry.recipe.scene import SceneSettings, with_scenes
from perfusion_registry.recipe.writing import make_folder, replace_text

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_FOLDER = ".perf/schemas"


@dataclass(frozen=True)
class ByMethod:
    """Tables of a file whose keys are those of the method that it names.

    path: the keys that lead to the method's name. tables: by table, and by method, the model of the table; of
    a method that is not there anything may stand in it. names: what else a file may say instead of a method's
    name. default: the method of a file that names none. closed: whether a table has no other keys than the
    model's.
    """

    path: tuple[str, ...]
    tables: Mapping[str, Mapping[str, type[BaseModel]]]
    default: str
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    closed: bool = True


class FileSchema(GenerateJsonSchema):
    """The JSON Schema of a file, with the tables of methods that `by_method` tells of by model.

    Each such table may be that of any method, so that editors complete it, or any table; and the name of a
    known method says which (`if`, `then`), so that a mistake is told at its key.
    """

    by_method: ClassVar[Mapping[type[BaseModel], ByMethod]] = {}

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """A model's, with the older names of its keys, and with it those of its methods."""
        generated = super().model_schema(schema)
        for one in schema["cls"].model_fields.values():
            if isinstance(one.validation_alias, AliasChoices):
                first, *others = (str(other) for other in one.validation_alias.choices)
                known = generated.get("properties", {}).get(first)
                if known is not None:
                    older = {other: {**known, "deprecated": True} for other in others}
                    generated["properties"] |= older
        said = self.by_method.get(schema["cls"])
        if said is None:
            return generated
        tables = {
            table: {method: self._table(model, said) for method, model in models.items()}
            for table, models in said.tables.items()
        }
        for table, every in tables.items():
            known = generated["properties"][table]
            about = {key: known[key] for key in ("description",) if key in known}
            distinct = [one for n, one in enumerate(every.values()) if one not in list(every.values())[:n]]
            generated["properties"][table] = {"anyOf": [*distinct, {"type": "object"}], **about}
        methods = dict.fromkeys(method for every in tables.values() for method in every)
        generated["allOf"] = [
            {
                "if": _named(said.path, (method, *said.names.get(method, ())), method != said.default),
                "then": {
                    "properties": {table: every[method] for table, every in tables.items() if method in every}
                },
            }
            for method in methods
        ]
        return generated

    def _table(self, model: type[BaseModel], said: ByMethod) -> JsonSchemaValue:
        generated = self.generate_inner(model.__pydantic_core_schema__)
        if said.closed:
            return generated
        known = self.resolve_ref_schema(generated)
        return {"type": "object", "properties": known.get("properties", {})}


def _named(path: tuple[str, ...], names: tuple[str, ...], required: bool) -> JsonSchemaValue:
    """A condition: the file names one of these methods, or none where `required` is false."""
    first, rest = path[0], path[1:]
    one: JsonSchemaValue = {"const": names[0]} if len(names) == 1 else {"enum": list(names)}
    below = _named(rest, names, required) if rest else one
    condition: JsonSchemaValue = {"properties": {first: below}}
    return {**condition, "required": [first]} if required else condition


class TomlSchema(FileSchema):
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


def schema_text(
    model: type[BaseModel], *, toml: bool, by_method: Mapping[type[BaseModel], ByMethod] | None = None
) -> str:
    """The JSON Schema of a file's model as text with a final newline. toml: whether the file is TOML.

    by_method: of models with tables that belong to methods.
    """
    kind: type[FileSchema] = TomlSchema if toml else FileSchema
    generator = type("Schema", (kind,), {"by_method": by_method or {}})
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


def place_schemas(root: Path, names: Collection[str], text: Callable[[str], str]) -> str:
    """The folder, relative to the project, of the schemas that its files point to; written if need be.

    names: of the schemas. text: gives one's text.
    """
    if all((root / "schemas" / schema_file(name)).is_file() for name in names):
        return "schemas"
    make_folder(root / _FOLDER)
    for name in names:
        replace_text(root / _FOLDER / schema_file(name), text(name))
    return _FOLDER
