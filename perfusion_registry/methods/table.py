"""The methods by name: those that come with perf, and those that other distributions bring.

Another distribution brings a method under the entry-point group `perfusion_registry.methods`, with the
method's name as the name of the entry point and a `Method` as its object.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union

from pydantic import BaseModel, RootModel

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.interface import Method
from perfusion_registry.plugins import load_object, load_plugin, plugin_names
from perfusion_registry.recipe import pack, recipe
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import parsed_version
from perfusion_registry.recipe.options import TrainingOptions
from perfusion_registry.recipe.pack import Pack
from perfusion_registry.recipe.recipe import Recipe
from perfusion_registry.suggestions import did_you_mean
from perfusion_registry.version import __version__

METHODS = {
    "perfusion": "perfusion_registry.methods.perfusion:METHOD",
    "textual-inversion": "perfusion_registry.methods.textual_inversion:METHOD",
}
"""The method of each name; loading one needs no torch."""

ENTRY_POINTS = "perfusion_registry.methods"
"""The group in which distributions name further methods; they replace none of `METHODS`."""


class UnknownMethodError(PerfError):
    """A method that this installation of perf does not have."""


def method_names() -> list[str]:
    """The names of all methods there are, sorted."""
    return sorted({*METHODS, *plugin_names(ENTRY_POINTS)})


def find_method(name: str) -> Method:
    """The method of that name. Raises UnknownMethodError where there is none, and PerfError for one that
    another distribution brings and that cannot be used.
    """
    if name in METHODS:
        shipped: Method = load_object(METHODS[name])
        return shipped
    brought = load_plugin(ENTRY_POINTS, name, Method, f"method `{name}`")  # type: ignore[type-abstract]
    if brought is None:
        names = method_names()
        listed = ", ".join(f"`{known}`" for known in names)
        otherwise = "check its name, upgrade perf, or install the distribution that brings it"
        raise UnknownMethodError(
            f"this perf has no method `{name}`; it has {listed}", hint=did_you_mean(name, names, otherwise)
        )
    return brought


def method_hindrance(method: str, requires_perf: str | None) -> str | None:
    """Why this perf can neither build nor draw a concept of the method `method` that needs perf
    `requires_perf`, as a sentence; None where it can.
    """
    if requires_perf is not None and parsed_version(requires_perf) > parsed_version(__version__):
        return f"it needs perf {requires_perf} or newer, and this is {__version__}"
    try:
        find_method(method)
    except UnknownMethodError as error:
        return error.what
    return None


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe, its options as its method has them; every mistake in the file is in the one
    PerfError that is raised.
    """
    return recipe.read_recipe(path, recipe_model)


def read_recipe_or_pack(path: Path) -> Recipe | Pack:
    """Read a file of `recipes/`: with `[pack]` it is a scene pack, else the recipe of a concept, as
    `read_recipe` reads it.
    """
    return pack.read_recipe_or_pack(path, recipe_model)


def recipe_model(method: str) -> type[Recipe]:
    """What the recipes of a method may hold. Raises UnknownMethodError."""
    return find_method(method).recipe_model


def any_recipe() -> type[BaseModel]:
    """The model of a recipe of any method that comes with perf, for its JSON Schema."""
    models = [recipe_model(name) for name in METHODS]
    if len(models) == 1:
        return models[0]
    union: Any = Union[tuple(models)]  # noqa: UP007
    return RootModel[union]


def resolve_train(recipe: Recipe, base_defaults: Mapping[str, Any]) -> TrainingOptions:
    """The recipe's `[train]` over the base card's `[train]` over its method's own values.

    base_defaults: the card's keys, None meaning absent. Raises PerfError when the card holds an unknown key
    or an impossible value.
    """
    return find_method(recipe.concept.method).resolve_train(recipe, base_defaults)


def resolve_render(recipe: Recipe, base_defaults: Mapping[str, Any]) -> FileModel:
    """The recipe's `[render]` over the base card's `[render]` over its method's own values, as in
    `resolve_train`.
    """
    return find_method(recipe.concept.method).resolve_render(recipe, base_defaults)
