"""Whether a file is as it was, and digests that are remembered for as long as it is.

A file counts as unchanged while its size, its times and its inode are. That is not enough for a file that was
written a moment ago: clocks of file systems are coarse, and a second change could look like the first. As git
does with its index, nothing is remembered of a file before it has rested.

    digests/<aa>/<digest of the path>.json    in the store: the stamp, and what was computed of the file
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfusion_registry.errors import PerfError

SETTLE = 2.0
"""Seconds after its last change for which a file may change again without showing it."""


@dataclass(frozen=True)
class FileStamp:
    """What a file system says of a file. size: bytes. mtime_ns, ctime_ns: times, in ns since 1970."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, path: str | Path) -> FileStamp:
        """The stamp of a file as it is now; raises OSError."""
        return cls.from_status(os.stat(path))

    @classmethod
    def from_status(cls, status: os.stat_result) -> FileStamp:
        """The stamp in what `os.stat` says."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    @property
    def changed_ns(self) -> int:
        """When the file last changed, by the later of its times: either can be set back, not both."""
        return max(self.mtime_ns, self.ctime_ns)

    def has_rested(self, settle: float = SETTLE) -> bool:
        """Whether the last change is more than `settle` seconds ago."""
        return time.time_ns() - self.changed_ns > settle * 1e9

    def values(self) -> list[int]:
        """The stamp as it is kept in files of JSON."""
        return [self.size, self.changed_ns, self.inode]


def sha256_of(path: Path) -> str:
    """The SHA-256 (hex) of a file's bytes, read now; raises PerfError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


class FileDigests:
    """Digests of files, remembered in the store at `cache` so that an unchanged file is read once.

    settle: seconds for which a file that was just changed is not trusted to stay as it is.
    """

    def __init__(self, cache: Path, settle: float = SETTLE) -> None:
        self._folder = cache / "digests"
        self._settle = settle

    def sha256(self, path: Path) -> str:
        """The SHA-256 (hex) of a file's bytes; raises PerfError when it cannot be read."""
        return self.remembered("sha256", path, sha256_of)

    def remembered(self, kind: str, path: Path, compute: Callable[[Path], str]) -> str:
        """`compute(path)`, or what it gave before if the file is as it was then.

        kind: names `compute` among the things remembered of one file. Raises PerfError when the file cannot
        be read, or changes meanwhile.
        """
        try:
            before = FileStamp.of(path)
            memory = self._memory(path)
            digests = _recall(memory, before)
            if kind not in digests:
                digests[kind] = compute(path)
                if FileStamp.of(path) != before:
                    raise PerfError(
                        "the file changed while it was read", where=str(path), hint="run it again"
                    )
                if before.has_rested(self._settle):
                    _remember(memory, {"stamp": before.values(), "digests": digests})
        except OSError as error:
            raise _unreadable(path, error) from error
        return digests[kind]

    def _memory(self, path: Path) -> Path:
        name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
        return self._folder / name[:2] / f"{name}.json"


def _recall(memory: Path, stamp: FileStamp) -> dict[str, str]:
    try:
        read: Any = json.loads(memory.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(read, dict) or read.get("stamp") != stamp.values():
        return {}
    digests = read.get("digests")
    if not isinstance(digests, dict):
        return {}
    return {str(kind): str(value) for kind, value in digests.items()}


def _remember(memory: Path, what: dict[str, Any]) -> None:
    # A memory that cannot be written only costs time.
    with contextlib.suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=memory.parent, delete=False, suffix=".tmp") as file:
            json.dump(what, file)
        os.replace(file.name, memory)


def _unreadable(path: Path, error: OSError) -> PerfError:
    return PerfError(f"the file cannot be read: {error.strerror or error}", where=str(path))
