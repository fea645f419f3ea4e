"""A recipe's options over the defaults of the base's card over the method's own values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import AliasChoices, ValidationError

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.model import FileModel

Options = TypeVar("Options", bound=FileModel)

OF_THE_BASE = ("flip", "sizes", "templates", "validation_prompts", "validation_steps", "validation_guidance")
"""What of a base card's `[train]` is about the base; the rest is for perfusion's learning rates."""


def of_the_base(base_defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Of a base card's `[train]` what counts for methods other than perfusion."""
    return {key: value for key, value in base_defaults.items() if key in OF_THE_BASE}


def over_defaults(
    options: type[Options], section: FileModel, base_defaults: Mapping[str, Any], table: str
) -> Options:
    """The options that a recipe's section says, else the base's card, else the model's own defaults.

    base_defaults: the card's keys, None meaning absent. table: `train` or `render`, for errors. Raises
    PerfError when the card holds an unknown key or an impossible value.
    """
    names = _names(options)
    values = {names.get(key, key): value for key, value in base_defaults.items() if value is not None}
    # TOML has arrays, and the options' models, strict about types, have tuples.
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
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


def _names(options: type[FileModel]) -> dict[str, str]:
    """The fields' names by what else a file may call them."""
    return {
        str(other): name
        for name, field in options.model_fields.items()
        if isinstance(field.validation_alias, AliasChoices)
        for other in field.validation_alias.choices
    }
