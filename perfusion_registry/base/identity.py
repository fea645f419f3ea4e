"""What tells one base from another, and where a base on this machine lies."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from perfusion_registry.base.card import BaseCard
from perfusion_registry.base.licence import base_licence


@dataclass(frozen=True)
class BaseFile:
    """One file that a base is made of. path: within the base's folder, with `/`. sha256: hex. size: bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class BaseIdentity:
    """What tells one base from another.

    repo: as in `BaseReference.repo`. revision: 40 hex digits for a hub model, else None. architecture: the
    name of its kind. family: hex sha256; concepts transfer between bases of one family. digest: hex sha256
    over its files. text_digest: hex sha256 over those that decide what a caption is encoded to. Of a pipeline
    that is not read from files both digests are "unknown". card: its defaults.
    """

    repo: str
    architecture: str
    family: str
    revision: str | None = None
    digest: str = "unknown"
    text_digest: str = "unknown"
    card: BaseCard = field(default_factory=BaseCard)


@dataclass(frozen=True, kw_only=True)
class BaseDescription(BaseIdentity):
    """A base that is present on this machine.

    folder: where it lies. files: what it is made of, sorted by path. variant: None, or "fp16" when its
    weights only exist under that name.
    """

    folder: Path
    files: tuple[BaseFile, ...]
    variant: str | None = None

    @property
    def covariance(self) -> Path | None:
        """The covariance file that ships with the base, or None."""
        path = self.folder / self.card.covariance
        return path if path.is_file() else None

    @property
    def licence(self) -> str | None:
        """What the model card beside the weights says; None where nothing is said."""
        return base_licence(self.folder)
