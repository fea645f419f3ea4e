"""The files that hold options of methods, read and checked: manifests, recipes, scene packs."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any, Union

from pydantic import BaseModel, Field, create_model

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.interface import Method
from perfusion_registry.methods.table import (
    METHODS,
    recipe_model,
    shipped_methods,
    usable_methods,
)
from perfusion_registry.recipe import manifest, pack, recipe, schemas
from perfusion_registry.recipe.manifest import Manifest
from perfusion_registry.recipe.options import TrainingSection
from perfusion_registry.recipe.pack import Pack
from perfusion_registry.recipe.recipe import DEFAULT_METHOD, Recipe
from perfusion_registry.recipe.scene import SceneSettings


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest, what its scenes set as methods have it; every mistake in the file is in the
    one PerfError that is raised.
    """
    return manifest.read_manifest(path, scene_settings)


def parse_manifest(text: str, *, where: str) -> Manifest:
    """Check the text of a manifest, as `read_manifest` does."""
    return manifest.parse_manifest(text, scene_settings, where=where)


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe, its options as its method has them; every mistake in the file is in the one
    PerfError that is raised.
    """
    return recipe.read_recipe(path, recipe_model)


def read_recipe_or_pack(path: Path) -> Recipe | Pack:
    """Read a file of `recipes/`: with `[pack]` it is a scene pack, else the recipe of a concept, as
    `read_recipe` reads it.
    """
    return pack.read_recipe_or_pack(path, recipe_model, scene_settings)


def parse_recipe_or_pack(text: str, *, where: str) -> Recipe | Pack:
    """Check the text of such a file, as `read_recipe_or_pack` does."""
    return pack.parse_recipe_or_pack(text, recipe_model, scene_settings, where=where)


def parse_pack(blob: bytes, where: str) -> Pack:
    """The pack of a published blob; nothing in it is trusted. Raises PerfError when it is none."""
    return pack.parse_pack(blob, scene_settings, where=where)


def scene_settings(keys: Collection[str]) -> type[SceneSettings]:
    """The model of what scenes may set for a concept: the settings of the methods that come with perf, and,
    where these do not have a key among `keys`, those of all methods that are installed.

    Which method a concept has is known when a scene is drawn; only then is it asked for its own settings.
    """
    shipped = shipped_methods()
    known = {setting.field for method in shipped for setting in method.settings}
    return _settings_of(tuple(shipped if known.issuperset(keys) else usable_methods()))


@cache
def _settings_of(methods: tuple[Method, ...]) -> type[SceneSettings]:
    types: dict[str, Any] = {}
    unsaid = {False: Field(None, exclude_if=lambda value: value is None), True: None}
    nulls: dict[str, bool] = {}
    for setting in (setting for method in methods for setting in method.settings):
        nulls[setting.field] = setting.null or nulls.get(setting.field, False)
        known = types.setdefault(setting.field, setting.type)
        types[setting.field] = known if known == setting.type else Union[known, setting.type]  # noqa: UP007
    fields: dict[str, Any] = {field: (kind | None, unsaid[nulls[field]]) for field, kind in types.items()}
    return create_model("SceneSettings", __base__=SceneSettings, __doc__=SceneSettings.__doc__, **fields)


def train_section(method: str) -> type[TrainingSection]:
    """What `[train]` of the recipes of a method may say. Raises UnknownMethodError, and PerfError for a
    method that imports."""
    section = recipe_model(method).model_fields["train"].annotation
    assert isinstance(section, type)
    if not issubclass(section, TrainingSection):
        raise PerfError(
            f"concepts of the method `{method}` are imported, not trained",
            hint="`perf import FILE` makes one",
        )
    return section


def any_train_section(keys: Collection[str] = ()) -> type[TrainingSection]:
    """What `[train]` may say where methods meet: all that those which come with perf have there, and, where
    these do not have a key among `keys`, all that those which are installed have.
    """
    shipped = _sections_of(tuple(method.name for method in shipped_methods() if not method.imports))
    if shipped.model_fields.keys() >= set(keys):
        return shipped
    return _sections_of(tuple(method.name for method in usable_methods() if not method.imports))


@cache
def _sections_of(methods: tuple[str, ...]) -> type[TrainingSection]:
    every = dict.fromkeys(train_section(name) for name in methods)
    # What another is made of says nothing more, and could not stand before it.
    bases = [one for one in every if not any(issubclass(other, one) for other in every if other is not one)]
    doc = "`[train]` whatever the method, which takes what it has; left out: the base's, else the method's."
    return create_model("TrainSection", __base__=tuple(bases), __doc__=doc)


def recipe_tables() -> dict[type[BaseModel], schemas.ByMethod]:
    """For the JSON Schema of recipes: the tables of each method that comes with perf."""
    tables = {
        table: {name: recipe_section(name, table) for name in METHODS}
        for table in ("concept", "train", "render")
    }
    return {Recipe: schemas.ByMethod(("concept", "method"), tables, DEFAULT_METHOD)}


def recipe_section(method: str, table: str) -> type[BaseModel]:
    """What a table of the recipes of a method, `concept`, `train` or `render`, may say. Raises
    UnknownMethodError."""
    section = recipe_model(method).model_fields[table].annotation
    assert isinstance(section, type)
    assert issubclass(section, BaseModel)
    return section


def edited_models() -> dict[str, type[BaseModel]]:
    """The models of the files that people write, by the names of their JSON Schemas."""
    return schemas.edited_models(Recipe, scene_settings(()))


@cache
def edited_schema(name: str) -> str:
    """The JSON Schema of such a file, as text; name: one of those of `edited_models`."""
    return schemas.schema_text(edited_models()[name], toml=True, by_method=recipe_tables())
