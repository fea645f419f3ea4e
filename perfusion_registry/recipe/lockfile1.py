"""Version 1 of the lockfile, which is read for good: of perfusion on Stable Diffusion, and no other."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from perfusion_registry.recipe.lockfile import (
    FORMAT_1_GATE,
    REGISTRY,
    LockedConcept,
    LockedCovariance,
    Lockfile,
)
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Constraint, Name, Sha256, Version
from perfusion_registry.recipe.options import Bias, KeyLock, Temperature


class LockedFile1(FileModel):
    """One file of the base: its path inside the base's folder, and its bytes."""

    path: str
    sha256: Sha256
    size: Annotated[int, Field(ge=0)]


class LockedBase1(FileModel):
    """The base: where it comes from and the bytes of every file that matters."""

    repo: str
    revision: str | None = None
    family: str
    digest: str
    files: Annotated[tuple[LockedFile1, ...], Field(alias="file")] = ()


class LockedConcept1(FileModel):
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
    def _whole(self) -> LockedConcept1:
        wanted = {"bias", "temperature", "key_lock"} if self.kind == "concept" else set()
        if self.registry is not None:
            wanted |= {"sha256", "size"}
        elif self.kind == "concept":
            wanted |= {"recipe_digest", "images", "options"}
        missing = sorted(key for key in wanted if getattr(self, key) is None)
        if missing:
            raise ValueError(f"`{self.name}` lacks {', '.join(f'`{key}`' for key in missing)}")
        return self


class Lockfile1(FileModel):
    """`perfusion.lock`, version 1."""

    version: int = 1
    revision: int = 1
    base: LockedBase1 | None = None
    covariance: LockedCovariance | None = None
    concepts: Annotated[tuple[LockedConcept1, ...], Field(alias="concept")] = ()

    @classmethod
    def of(cls, lock: Lockfile) -> Lockfile1:
        """The lockfile in version 1's fields, which say all of it (`Lockfile.as_written`)."""
        fields = lock.model_dump(exclude={"concepts"}, exclude_none=True)
        concepts = [
            concept.model_dump(exclude={"method", "render", "transferred"}) | concept.render
            for concept in lock.concepts
        ]
        return cls.model_validate(fields | {"concepts": tuple(concepts)})

    def upgraded(self) -> Lockfile:
        """The lockfile as version 2 has it in memory; it is still written as version 1."""
        values = self.model_dump(exclude={"concepts"})
        concepts = []
        for concept in self.concepts:
            fields = concept.model_dump(exclude=set(FORMAT_1_GATE))
            gate = {key: getattr(concept, key) for key in FORMAT_1_GATE}
            render = {key: value for key, value in gate.items() if value is not None}
            concepts.append(LockedConcept(**fields, render=render))
        return Lockfile.model_validate(values | {"concepts": tuple(concepts)})
