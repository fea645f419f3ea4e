"""The lockfile, `perfusion.lock`: every concept, the base and the covariance, to exact bytes.

The text is made for merging: sorted blocks, one field per line, no timestamps, no absolute paths, no hash of
the whole. `version` changes when an older perf could not read the file, `revision` when it can.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Sha256, Version
from perfusion_registry.recipe.options import Bias, KeyLock, Temperature

FORMAT_VERSION = 1
FORMAT_REVISION = 0


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
    """One concept version: its source, the digest of all its inputs, and its artifact once it is built.

    images and options are digests of parts of the inputs; they only serve to say why a build is needed.
    """

    name: Name
    version: Version
    source: str
    recipe_digest: Sha256
    images: Sha256
    options: Sha256
    sha256: Sha256 | None = None
    size: Annotated[int, Field(ge=0)] | None = None
    bias: Bias
    temperature: Temperature
    key_lock: KeyLock


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
