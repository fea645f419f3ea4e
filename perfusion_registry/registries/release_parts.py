"""What releases of both formats are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self

from pydantic import (
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializationInfo,
    model_serializer,
    model_validator,
)
from pydantic_core.core_schema import SerializerFunctionWrapHandler, ValidationInfo

from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Constraint, Name

LARGEST_BLOB = 2**30
"""Bytes that a published artifact may have at most; a learned concept has some ten thousand, a LoRA of SDXL
hundreds of millions."""

Text = Annotated[str, Field(max_length=4000)]


class Growing(FileModel):
    """Part of a release, to which a newer perf may add keys that an older one can do without.

    What is read keeps the keys that this perf does not know, where they stood: written again they give the
    same bytes, which is what signatures cover. What is made here has known keys alone.
    """

    model_config = ConfigDict(extra="allow")
    _order: tuple[str, ...] = PrivateAttr(default=())

    @model_validator(mode="wrap")
    @classmethod
    def _keep_foreign(
        cls, fields: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        """The model, and how its keys were ordered if there are any that it does not know."""
        made = handler(fields)
        if isinstance(fields, Mapping) and made.model_extra:
            if info.mode != "json":
                raise ValueError(f"`{next(iter(made.model_extra))}` is not a key of it")
            made._order = tuple(fields)
        return made

    @property
    def foreign(self) -> dict[str, Any]:
        """The keys that this perf does not know, and their values."""
        return dict(self.model_extra or {})

    @model_serializer(mode="wrap")
    def _spelt(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """With every key where it stood."""
        del info
        return self._ordered(handler(self))

    def _ordered(self, values: dict[str, Any]) -> dict[str, Any]:
        """The values by key, in the order that was read."""
        if not self._order:
            return values
        keys: Iterable[str] = dict.fromkeys((*self._order, *values))
        return {key: values[key] for key in keys if key in values}


class RequiredConcept(Growing):
    """Another concept that a release needs, from the same registry."""

    name: Name
    version: Constraint


class Signature(Growing):
    """A detached ed25519 signature: the public key and the signature over `Release.signed_bytes`, in hex."""

    key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    signature: Annotated[str, Field(pattern="^[0-9a-f]{128}$")]
