"""Digests of a base's files, remembered in this machine's store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from perfusion_registry.cache_folder import cache_dir
from perfusion_registry.file_digests import FileDigests


def file_digest(path: Path) -> str:
    """The hex sha256 of a file's bytes; an unchanged file is read once. Raises PerfError if unreadable."""
    return FileDigests(cache_dir()).sha256(path)


def remembered(kind: str, path: Path, compute: Callable[[Path], str]) -> str:
    """`FileDigests.remembered` of this machine's store."""
    return FileDigests(cache_dir()).remembered(kind, path, compute)
