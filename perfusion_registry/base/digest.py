"""Digests of large files, remembered by size and times so that an unchanged file is read once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perfusion_registry.artifact.paths import cache_dir
from perfusion_registry.errors import PerfError

# A file as young as this may change again within its time stamp's resolution; as git does, distrust it.
_SETTLED_NS = 2_000_000_000


def file_digest(path: Path) -> str:
    """The hex sha256 of a file's bytes; an unchanged file is read once. Raises PerfError if unreadable."""
    return remembered("sha256", path, _sha256)


def remembered(kind: str, path: Path, compute: Callable[[Path], str]) -> str:
    """`compute(path)`, or what it gave before if the file's size, times and inode are as they were then.

    kind: names `compute` among the things remembered of one file. Raises PerfError when the file is
    unreadable.
    """
    try:
        before = _stamp(path)
        memory = _memory_file(path)
        memories = _recall(memory, before)
        if kind not in memories:
            memories[kind] = compute(path)
            if _stamp(path) != before:
                raise PerfError("the file changed while it was read", where=str(path), hint="run it again")
            if time.time_ns() - before[1] > _SETTLED_NS:
                _remember(memory, {"stamp": before, "digests": memories})
        return memories[kind]
    except OSError as error:
        raise PerfError(f"the file cannot be read: {error.strerror}", where=str(path)) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, max(status.st_mtime_ns, status.st_ctime_ns), status.st_ino]


def _memory_file(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
    return cache_dir() / "digests" / name[:2] / f"{name}.json"


def _recall(memory: Path, stamp: list[int]) -> dict[str, str]:
    try:
        said: Any = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(said, dict) or said.get("stamp") != stamp or not isinstance(said.get("digests"), dict):
        return {}
    return {str(kind): str(value) for kind, value in said["digests"].items()}


def _remember(memory: Path, what: dict[str, Any]) -> None:
    # A memory that cannot be written only costs time.
    with contextlib.suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=memory.parent, delete=False, suffix=".tmp") as file:
            json.dump(what, file)
        os.replace(file.name, memory)
