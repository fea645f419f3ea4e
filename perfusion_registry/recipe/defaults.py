"""A recipe's options over the defaults of the base's card over the paper's values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.options import RenderOptions, TrainOptions
from perfusion_registry.recipe.presets import PRESETS
from perfusion_registry.recipe.recipe import Recipe


def resolve_train(recipe: Recipe, base_defaults: Mapping[str, Any]) -> TrainOptions:
    """The recipe's `[train]` over the base card's `[train]` over the paper's values.

    base_defaults: the card's keys, None meaning absent. Raises PerfError when the card holds an unknown key
    or an impossible value.
    """
    return _resolve(TrainOptions, recipe.train, base_defaults, "train")


def resolve_render(recipe: Recipe, base_defaults: Mapping[str, Any]) -> RenderOptions:
    """The recipe's `[render]` over the base card's `[render]` over the paper's values.

    A card's `[render]` also speaks of steps, sizes and guidance; those concern the renderer, not a concept.
    """
    known = {key: value for key, value in base_defaults.items() if key in RenderOptions.model_fields}
    section = recipe.render
    if section.preset is not None:
        preset = PRESETS[section.preset]
        lock = section.key_lock or known.get("key_lock") or RenderOptions().key_lock
        known |= {"bias": preset.bias(lock), "temperature": preset.temperature}
    return _resolve(RenderOptions, section.model_copy(update={"preset": None}), known, "render")


Options = TypeVar("Options", TrainOptions, RenderOptions)


def _resolve(
    options: type[Options], section: FileModel, base_defaults: Mapping[str, Any], table: str
) -> Options:
    values = {key: value for key, value in base_defaults.items() if value is not None}
    for key in ("templates", "validation_prompts", "sizes", "company"):
        if isinstance(values.get(key), list):
            values[key] = tuple(values[key])
    values |= section.model_dump(exclude_none=True)
    try:
        return options.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise PerfError(
            f"the base's card asks for an impossible training or render default: {first['msg']}",
            where=f"perf-base.toml, {table}.{key}",
            hint="correct the base's card, or set the key in the recipe",
        ) from error
