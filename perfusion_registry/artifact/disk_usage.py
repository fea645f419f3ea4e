"""What the store holds: files and bytes of each kind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KINDS = {
    "artifacts": "concepts, by the hash of their bytes",
    "builds": "which recipe built which artifact",
    "sheets": "what artifacts draw, a small sheet each",
    "work": "checkpoints of unfinished builds",
    "registries": "what registries answered, for offline use and against rollback",
    "synced": "what the last sync of a project found whole",
    "evaluation": "pictures and scores of evaluations",
    "digests": "hashes of large files that have not changed",
    "quarantine": "damaged artifacts that `perf cache verify` set aside",
    "projects": "lockfiles whose artifacts stay",
    "locks": "held by the kernel while a process works",
}
"""The folders of a store and what is in them."""


@dataclass(frozen=True)
class Entry:
    """One file of the store. used: when it was last used, in seconds since the epoch."""

    path: Path
    size: int
    used: float


@dataclass(frozen=True)
class Count:
    """The files of one kind and their bytes."""

    kind: str
    files: int
    size: int


def disk_usage(root: Path) -> list[Count]:
    """Count what is in the store, kind by kind; kinds that this perf does not know come last."""
    try:
        there = {path.name for path in root.iterdir() if path.is_dir()}
    except OSError:
        there = set()
    counts = []
    for kind in [*KINDS, *sorted(there - KINDS.keys() - {"trash"})]:
        entries = list(files(root / kind))
        counts.append(Count(kind, len(entries), sum(entry.size for entry in entries)))
    return counts


def files(folder: Path) -> Iterator[Entry]:
    """Every file below `folder`; what vanishes meanwhile is left out. Links are not followed."""
    for at, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(at, name)
            try:
                status = path.lstat()
            except OSError:
                continue
            yield Entry(path, status.st_size, status.st_mtime)
