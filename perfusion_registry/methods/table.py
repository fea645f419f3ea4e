"""The methods by name: those that come with perf, and those that other distributions bring.

Another distribution brings a method under the entry-point group `perfusion_registry.methods`, with the
method's name as the name of the entry point and a `Method` as its object.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.interface import Examined, Method
from perfusion_registry.methods.settings import Setting, Value
from perfusion_registry.plugins import load_object, load_plugin, plugin_names
from perfusion_registry.recipe.mask_files import reads_mask_files
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import parsed_version
from perfusion_registry.recipe.options import TrainingOptions, TrainingSection
from perfusion_registry.recipe.recipe import Recipe
from perfusion_registry.suggestions import did_you_mean
from perfusion_registry.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from perfusion_registry.base import BaseDescription

METHODS = {
    "custom-diffusion": "perfusion_registry.methods.custom_diffusion:METHOD",
    "dreambooth": "perfusion_registry.methods.dreambooth:METHOD",
    "dreambooth-lora": "perfusion_registry.methods.dreambooth_lora:METHOD",
    "lora": "perfusion_registry.methods.lora:METHOD",
    "perfusion": "perfusion_registry.methods.perfusion:METHOD",
    "residuals": "perfusion_registry.methods.residuals:METHOD",
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


def shipped_methods() -> list[Method]:
    """The methods that come with perf."""
    return [find_method(name) for name in METHODS]


def importing_method(file: Path, base: BaseDescription) -> tuple[Method, Examined]:
    """The method of those that come with perf that takes a file, and what the file says of itself. Raises
    PerfError for a file that none takes, and for one that does not fit the base."""
    for method in shipped_methods():
        found = method.examined(file, base)
        if found is not None:
            return method, found
    raise PerfError(f"no method makes concepts of `{file.name}`", where=str(file))


def usable_methods() -> list[Method]:
    """All methods there are. One that cannot be used is left out; who asks for it by name is told why."""
    methods = shipped_methods()
    for name in method_names():
        if name not in METHODS:
            with suppress(PerfError):
                methods.append(find_method(name))
    return methods


def find_drawing(name: str) -> tuple[Method, str | None]:
    """How suites say that concepts are learned and drawn: a method by its name, with None, or by the name of
    another of its ways to draw, with that. Raises UnknownMethodError where there is neither.
    """
    for method in shipped_methods():
        if name in method.drawings:
            return method, name
    if name not in method_names():
        for method in usable_methods():
            if name in method.drawings:
                return method, name
    return find_method(name), None


def shipped_settings() -> dict[str, Setting]:
    """The settings of the methods that come with perf, by key: what commands have options for."""
    settings: dict[str, Setting] = {}
    for method in shipped_methods():
        for setting in method.settings:
            settings.setdefault(setting.key, setting)
    return settings


def check_general(settings: Mapping[str, Any]) -> None:
    """Check what is set for all concepts of a prompt, whatever their methods and even where it calls none.
    Raises PerfError, without a place, for what no method has, and for a value that none would take.
    """
    for field, value in settings.items():
        check_choices(field, (value,))


def check_choices(field: str, values: Iterable[Any]) -> None:
    """Check values of a setting, by its field or key, of whichever method has it. Raises as `check_general`
    does.
    """
    for value in values:
        refused = _refusal(field, value, shipped_methods())
        if refused is not None and (refused := _refusal(field, value, usable_methods())) is not None:
            raise refused


def find_setting(key: str) -> Setting:
    """The setting of that key or field, of whichever method has one. Raises PerfError, without a place, where
    there is none.
    """
    keys = []
    for methods in (shipped_methods, usable_methods):
        for setting in (setting for method in methods() for setting in method.settings):
            if key in (setting.key, setting.field):
                return setting
            keys.append(setting.key)
    hint = did_you_mean(key, keys, f"the options are {', '.join(dict.fromkeys(keys))}", form="{}")
    raise PerfError(f"{key!r} is no option of any concept", hint=hint)


def read_choice(text: str) -> tuple[Setting, tuple[Value, ...]]:
    """The setting, of whichever method has it, and the values that `KEY=V,V,...` says. Raises PerfError,
    without a place, for what says neither.
    """
    key, equals, values = text.partition("=")
    setting = find_setting(key.strip())
    if not equals:
        raise PerfError("there are no values", hint=f"write {setting.key}={setting.example}")
    return setting, setting.read_several(values)


def _refusal(field: str, value: Any, methods: Sequence[Method]) -> PerfError | None:
    """Why none of these methods takes this value of a setting; None where one does."""
    settings = [setting for method in methods for setting in method.settings]
    refused: PerfError | None = None
    for setting in settings:
        if field in (setting.field, setting.key):
            try:
                setting.check(value)
            except PerfError as error:
                refused = refused or error
            else:
                return None
    if refused is not None:
        return refused
    keys = [setting.key for setting in settings]
    hint = did_you_mean(field, keys, f"the options are {', '.join(dict.fromkeys(keys))}", form="{}")
    return PerfError(f"{field!r} is no option of any concept", hint=hint)


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


def recipe_model(method: str) -> type[Recipe]:
    """What the recipes of a method may hold. Raises UnknownMethodError."""
    return find_method(method).recipe_model


def resolve_train(recipe: Recipe, base_defaults: Mapping[str, Any]) -> FileModel:
    """The recipe's `[train]` over the base card's `[train]` over its method's own values: `TrainingOptions`,
    unless the method imports.

    base_defaults: the card's keys, None meaning absent. Raises PerfError when the card holds an unknown key
    or an impossible value.
    """
    return find_method(recipe.concept.method).resolve_train(recipe, base_defaults)


def with_given_masks(train: TrainingOptions, recipe: Recipe, given: Sequence[bool]) -> TrainingOptions:
    """The options with the masks that a person gave, where every image has one and the recipe does not say
    where they come from.

    given: whether each image has a mask file.
    """
    said = isinstance(recipe.train, TrainingSection) and recipe.train.mask is not None
    if said or reads_mask_files(train.mask) or not given or not all(given):
        return train
    return train.model_copy(update={"mask": "files"})


def resolve_render(recipe: Recipe, base_defaults: Mapping[str, Any]) -> FileModel:
    """The recipe's `[render]` over the base card's `[render]` over its method's own values, as in
    `resolve_train`.
    """
    return find_method(recipe.concept.method).resolve_render(recipe, base_defaults)
