"""A release: one published version of a concept or of a scene pack, as an index describes it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Constraint, Name, Sha256, Version
from perfusion_registry.recipe.options import Bias, KeyLock, Temperature

RELEASE_FORMAT = 1
LARGEST_BLOB = 64 * 2**20
"""Bytes that a published artifact may have at most; a concept has some ten thousand."""

Text = Annotated[str, Field(max_length=4000)]


class Requirement(FileModel):
    """Another concept that a release needs, from the same registry."""

    name: Name
    version: Constraint


class Signature(FileModel):
    """A detached ed25519 signature: the public key and the signature over `Release.signed_bytes`, in hex."""

    key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    signature: Annotated[str, Field(pattern="^[0-9a-f]{128}$")]


class Release(FileModel):
    """One published name@version; immutable once it is in an index.

    kind: `concept` (a blob in the artifact format) or `pack` (a scene pack: a blob of TOML with prompts and
    gates, and requirements). sha256, size: of the blob. family, covariance: what a concept composes with; a
    pack has neither. The other fields are the card's, told here so that choosing needs no download.
    """

    format: Annotated[int, Field(ge=1, le=RELEASE_FORMAT)] = RELEASE_FORMAT
    name: Name
    version: Version
    kind: Literal["concept", "pack"] = "concept"
    sha256: Sha256
    size: Annotated[int, Field(ge=1, le=LARGEST_BLOB)]
    family: Text | None = None
    covariance: Text | None = None
    base: Text | None = None
    supercategory: Text | None = None
    recipe_digest: Sha256 | None = None
    bias: Bias | None = None
    temperature: Temperature | None = None
    key_lock: KeyLock | None = None
    requires: tuple[Requirement, ...] = ()
    licence: Text | None = None
    base_licence: Text | None = None
    authors: tuple[Text, ...] = ()
    consent: Text | None = None
    description: Text | None = None
    signature: Signature | None = None

    @model_validator(mode="after")
    def _whole(self) -> Release:
        built = (self.family, self.covariance, self.supercategory, self.bias, self.temperature, self.key_lock)
        if self.kind == "concept" and None in built:
            raise ValueError("a concept's release tells its family, covariance, supercategory and gate")
        return self

    def signed_bytes(self) -> bytes:
        """What a signature covers: every field but the signature, in one spelling."""
        return self.model_copy(update={"signature": None}).model_dump_json(exclude_none=True).encode()
