"""Format 1 of a release, which is read for good: of perfusion on Stable Diffusion, and no other."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Sha256, Version
from perfusion_registry.recipe.options import Bias, KeyLock, Temperature
from perfusion_registry.registries.release_parts import LARGEST_BLOB, RequiredConcept, Signature, Text


class Release1(FileModel):
    """One published name@version; immutable once it is in an index.

    kind: `concept` (a blob in the artifact format) or `pack` (a scene pack: a blob of TOML with prompts and
    gates, and requirements). sha256, size: of the blob. family, covariance: what a concept composes with; a
    pack has neither. The other fields are the card's, told here so that choosing needs no download.
    """

    format: Literal[1] = 1
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
    requires: tuple[RequiredConcept, ...] = ()
    licence: Text | None = None
    base_licence: Text | None = None
    authors: tuple[Text, ...] = ()
    consent: Text | None = None
    description: Text | None = None
    signature: Signature | None = None

    @model_validator(mode="after")
    def _whole(self) -> Release1:
        built = (self.family, self.covariance, self.supercategory, self.bias, self.temperature, self.key_lock)
        if self.kind == "concept" and None in built:
            raise ValueError("a concept's release tells its family, covariance, supercategory and gate")
        return self
