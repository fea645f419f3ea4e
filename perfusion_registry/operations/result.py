"""What operations return: frozen models that dump to what their command prints with `--json`."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from perfusion_registry.recipe.model import FileModel

T = TypeVar("T")

InProcess = Annotated[T, SkipJsonSchema(), Field(exclude=True)]
"""A part of a result for whoever called from Python; `--json` leaves it out."""


def left_out_if_none() -> Any:
    """A field that is None unless said, and then is not printed."""
    return Field(default=None, exclude_if=lambda value: value is None)


def named(schema: str) -> Any:
    """The field that names a result's schema and version, such as `perf.lock/1`."""
    return Field(default=schema, alias="schema", repr=False)


def _always_named(schema: dict[str, Any]) -> None:
    """Every result that is printed has its schema's name."""
    name = schema.get("properties", {}).get("schema")
    if name is not None:
        name.pop("default", None)
        schema["required"] = ["schema", *schema.get("required", [])]


class Result(FileModel):
    """What an operation returns. Within one version of its schema, keys are only ever added."""

    model_config = ConfigDict(json_schema_extra=_always_named)

    def printed(self) -> dict[str, Any]:
        """The result as JSON values, the schema's name first."""
        values = self.model_dump(mode="json", by_alias=True)
        return {"schema": values.pop("schema"), **values}
