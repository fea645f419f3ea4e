"""A base on disk, described without loading it: its files, their digests, its family and its card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from perfusion_registry.base.card import BaseCard
from perfusion_registry.base.reference import BaseReference


@dataclass(frozen=True)
class BaseFile:
    """One file that a base is made of. path: relative to the base's folder, with `/`. sha256: hex. size: bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class BaseDescription:
    """A base that is present on this machine.

    repo: as in `BaseReference.repo`. revision: 40 hex digits for a hub model, else None.
    folder: where it lies. files: what it is made of, sorted by path. digest: hex sha256 over `files`.
    family: hex sha256; concepts transfer between bases of one family. card: its defaults.
    """

    repo: str
    revision: str | None
    folder: Path
    files: tuple[BaseFile, ...]
    digest: str
    family: str
    card: BaseCard

    @property
    def covariance(self) -> Path | None:
        """The covariance file that ships with the base, or None."""
        path = self.folder / self.card.covariance
        return path if path.is_file() else None


def describe_base(
    reference: BaseReference | str, *, root: Path | None = None, allow_download: bool | None = None
) -> BaseDescription:
    """Find a base on this machine and describe it, without importing torch.

    root: what a relative folder is relative to; the working directory by default.
    allow_download: whether a hub model that is not here may be downloaded; None asks PERF_ALLOW_DOWNLOAD.
    Raises PerfError when the base is not here, incomplete, or not a UNet with text cross-attention.
    """
    raise NotImplementedError
