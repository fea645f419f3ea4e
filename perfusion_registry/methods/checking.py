"""A method's table inside another file, checked by the method's model, with the place of each mistake."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from perfusion_registry.recipe.model import FileModel
from perfusion_registry.suggestions import did_you_mean

Checked = TypeVar("Checked", bound=FileModel)


def keys_of(said: Any) -> set[str]:
    """The keys that a table sets, of what was parsed or of a model; None is as if left out."""
    return set(_given(said))


def table_of(model: type[Checked], said: Any, unknown: str, below: tuple[str, ...] = ()) -> Checked:
    """What a table says, as `model` has it; None is as if left out.

    said: parsed, or of another model. unknown: what follows the name of a key that the model does not have
    (`is no option of [train] of ...`). below: the keys that lead to the table, where who asks is not asked
    for the table alone. Raises pydantic's ValidationError with the place of each mistake.
    """
    given = _given(said)
    try:
        # By way of JSON, where an array may become a tuple while every other type stays strict.
        return model.model_validate_json(json.dumps(given, default=str))
    except ValidationError as error:
        mistakes: list[InitErrorDetails] = []
        for mistake in error.errors(include_url=False):
            loc = (*below, *mistake["loc"])
            told: InitErrorDetails = {"type": mistake["type"], "loc": loc, "input": mistake["input"]}
            if "ctx" in mistake:
                told["ctx"] = mistake["ctx"]
            if mistake["type"] == "extra_forbidden" and len(mistake["loc"]) == 1:
                key, known = str(mistake["loc"][0]), list(model.model_fields)
                meant = did_you_mean(key, known, f"known: {', '.join(known) or 'none'}")
                what = f"`{key}` {unknown}; {meant}"
                told = {
                    "type": PydanticCustomError("value_error", "{error}", {"error": what}),
                    "loc": loc,
                    "input": mistake["input"],
                }
            mistakes.append(told)
        raise ValidationError.from_exception_data(model.__name__, mistakes) from error


def _given(said: Any) -> dict[str, Any]:
    if isinstance(said, BaseModel):
        return said.model_dump(exclude_none=True)
    if not isinstance(said, Mapping):
        raise ValueError("expected a table")
    return {str(key): value for key, value in said.items() if value is not None}
