"""What releases of both formats are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Constraint, Name

LARGEST_BLOB = 64 * 2**20
"""Bytes that a published artifact may have at most; a concept has some ten thousand."""

Text = Annotated[str, Field(max_length=4000)]


class RequiredConcept(FileModel):
    """Another concept that a release needs, from the same registry."""

    name: Name
    version: Constraint


class Signature(FileModel):
    """A detached ed25519 signature: the public key and the signature over `Release.signed_bytes`, in hex."""

    key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    signature: Annotated[str, Field(pattern="^[0-9a-f]{128}$")]
