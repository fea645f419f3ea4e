"""Digests of a base's files, remembered in this machine's store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from perfusion_registry.cache_folder import cache_dir
from perfusion_registry.file_digests import FileDigests


def file_digest(path: Path) -> str:
    """The hex sha256 of a file's bytes; an unchanged file is read once. Raises PerfError if unreadable."""
    return FileDigests(cache_dir()).sha256(path)


def folder_digest(files: Iterable[tuple[str, str]]) -> str:
    """The digest of a base in a folder. files: the paths of its files within it, sorted, and their hex
    sha256."""
    lines = "".join(f"{sha256}  {path}\n" for path, sha256 in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def remembered(kind: str, path: Path, compute: Callable[[Path], str]) -> str:
    """`FileDigests.remembered` of this machine's store."""
    return FileDigests(cache_dir()).remembered(kind, path, compute)
