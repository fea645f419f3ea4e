"""The lockfile, `perfusion.lock`: every concept, the base and the covariance, to exact bytes.

The text is made for merging: sorted blocks, one field per line, no timestamps, no absolute paths, no hash of
the whole. `version` changes when an older perf could not read the file, `revision` when it can. Revision 1
added concepts from registries and scene packs.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Constraint, Name, Sha256, Version
from perfusion_registry.recipe.options import Bias, KeyLock, Temperature

FORMAT_VERSION = 1
FORMAT_REVISION = 1
REGISTRY = "registry+"
"""How the source of a concept from a registry begins; the registry's address follows."""


class LockedFile(FileModel):
    """One file of the base: its path inside the base's folder, and its bytes."""

    path: str
    sha256: Sha256
    size: Annotated[int, Field(ge=0)]


class LockedBase(FileModel):
    """The base: where it comes from and the bytes of every file that matters."""

    repo: str
    revision: str | None = None
    family: str
    digest: str
    files: Annotated[tuple[LockedFile, ...], Field(alias="file")] = ()


class LockedCovariance(FileModel):
    """The covariance C that the concepts were built with."""

    sha256: Sha256
    shape: tuple[int, int] | None = None
    corpus: str | None = None
    builder: str | None = None


class LockedConcept(FileModel):
    """One concept version: its source and the bytes of its artifact; or a scene pack and its bytes.

    source: the recipe, relative to the project; or `registry+` and the registry as the manifest names it.
    recipe_digest: of all inputs of a recipe; images and options are digests of parts of them, and only serve
    to say why a build is needed. sha256, size: of the artifact, once there is one; a registry's always is.
    requires: what else must be locked, and at which versions. A pack has no gate of its own.
    """

    name: Name
    version: Version
    kind: Literal["concept", "pack"] = "concept"
    source: str
    recipe_digest: Sha256 | None = None
    images: Sha256 | None = None
    options: Sha256 | None = None
    sha256: Sha256 | None = None
    size: Annotated[int, Field(ge=0)] | None = None
    requires: dict[Name, Constraint] = Field(default_factory=dict)
    bias: Bias | None = None
    temperature: Temperature | None = None
    key_lock: KeyLock | None = None

    @property
    def registry(self) -> str | None:
        """The registry that it comes from, as the manifest names it; None for a recipe of the project."""
        return self.source.removeprefix(REGISTRY) if self.source.startswith(REGISTRY) else None

    @model_validator(mode="after")
    def _whole(self) -> LockedConcept:
        wanted = {"bias", "temperature", "key_lock"} if self.kind == "concept" else set()
        if self.registry is not None:
            wanted |= {"sha256", "size"}
        elif self.kind == "concept":
            wanted |= {"recipe_digest", "images", "options"}
        missing = sorted(key for key in wanted if getattr(self, key) is None)
        if missing:
            raise ValueError(f"`{self.name}` lacks {', '.join(f'`{key}`' for key in missing)}")
        return self


class Lockfile(FileModel):
    """`perfusion.lock`."""

    version: int = FORMAT_VERSION
    revision: int = FORMAT_REVISION
    base: LockedBase | None = None
    covariance: LockedCovariance | None = None
    concepts: Annotated[tuple[LockedConcept, ...], Field(alias="concept")] = ()

    def concept(self, name: str) -> LockedConcept | None:
        """The locked concept of that canonical name, or None."""
        return next((concept for concept in self.concepts if concept.name == name), None)
