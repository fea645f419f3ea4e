"""Pruning a store: what no known lockfile names is removed, the longest unused first."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from perfusion_registry.artifact.disk_usage import files
from perfusion_registry.artifact.lockfiles import forget_lost, known_lockfiles, locked_digests
from perfusion_registry.artifact.locking import read_lock, write_lock
from perfusion_registry.file_lock import file_lock
from perfusion_registry.recipe.writing import make_folder, write_error
from perfusion_registry.reporter import Reporter, Silent

_PRUNED = ("artifacts", "sheets", "work", "evaluation", "digests", "quarantine")
"""The kinds that can be made or fetched again. What registries answered stays: it guards against rollback."""
_FORSAKEN = 3600.0  # seconds after which a temporary file has no writer any more


@dataclass(frozen=True)
class Removal:
    """Something that is, or would be, removed: an artifact, a checkpoint, a memory."""

    kind: str
    path: Path
    size: int
    used: float


@dataclass(frozen=True)
class Pruning:
    """What a pruning removed, or would remove, and what is left.

    locked: artifacts that stay because one of the `lockfiles` names them.
    """

    removed: tuple[Removal, ...]
    left: int
    locked: int
    lockfiles: tuple[Path, ...]


def prune(
    root: Path,
    *,
    older_than: float | None = None,
    max_size: int | None = None,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> Pruning:
    """Remove from the store at `root` what no known lockfile names.

    older_than: only what was not used for so many seconds. max_size: only as much as brings the store below
    so many bytes, the longest unused first. With neither, everything that can go goes. Waits until no other
    process uses the store; a kill at any point leaves a whole store.
    """
    reporter = reporter or Silent()
    if not root.is_dir():
        return Pruning((), 0, 0, ())
    with read_lock(root, reporter) if dry_run else write_lock(root, reporter):
        lockfiles = known_lockfiles(root)
        locked = locked_digests(root)
        total = sum(entry.size for kind in (*_PRUNED, "builds", "registries") for entry in files(root / kind))
        everything = sorted(_candidates(root), key=lambda candidate: (candidate.used, candidate.path))
        kept = sum(
            candidate.kind == "artifacts" and candidate.path.stem in locked for candidate in everything
        )
        free = [
            candidate
            for candidate in everything
            if not (candidate.kind in ("artifacts", "sheets") and candidate.path.stem in locked)
        ]
        chosen = _choose(free, total, older_than, max_size)
        left = total - sum(candidate.size for candidate in chosen)
        if dry_run:
            return Pruning(tuple(chosen), left, kept, tuple(lockfiles))
        removed = []
        with reporter.stage("Pruning", len(chosen)) as stage:
            for candidate in chosen:
                if _remove(root, candidate):
                    removed.append(candidate)
                stage.advance(1, candidate.path.name[:12])
        _tidy(root)
        forget_lost(root)
        return Pruning(
            tuple(removed), total - sum(candidate.size for candidate in removed), kept, tuple(lockfiles)
        )


def _candidates(root: Path) -> Iterator[Removal]:
    for kind in _PRUNED:
        if kind == "work":
            for folder in _folders(root / kind):
                entries = list(files(folder))
                used = max((entry.used for entry in entries), default=folder.stat().st_mtime)
                yield Removal(kind, folder, sum(entry.size for entry in entries), used)
        else:
            for entry in files(root / kind):
                if not _temporary(entry.path):
                    yield Removal(kind, entry.path, entry.size, entry.used)


def _choose(free: list[Removal], total: int, older_than: float | None, max_size: int | None) -> list[Removal]:
    if older_than is None and max_size is None:
        return free
    now = time.time()
    chosen = [candidate for candidate in free if older_than is not None and now - candidate.used > older_than]
    if max_size is not None:
        total -= sum(candidate.size for candidate in chosen)
        for candidate in free[len(chosen) :]:  # both are sorted by age: the chosen are the first
            if total <= max_size:
                break
            chosen.append(candidate)
            total -= candidate.size
    return chosen


def _remove(root: Path, removal: Removal) -> bool:
    """Take it out of the store in one step; False for a checkpoint whose build is running."""
    if removal.kind != "work":
        return _discard(root, removal.path)
    try:
        with file_lock(root / "locks" / f"{removal.path.name}.lock", timeout=0):
            return _discard(root, removal.path)
    except TimeoutError:
        return False
    except OSError as error:
        raise write_error(error, removal.path) from error


def _discard(root: Path, path: Path) -> bool:
    trash = root / "trash"
    make_folder(trash)
    target = trash / secrets.token_hex(8)
    try:
        os.replace(path, target)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise write_error(error, path) from error
    _delete(target)
    return True


def _tidy(root: Path) -> None:
    """Remove what a kill left behind, and records of artifacts that are gone."""
    for path in _entries(root / "trash"):
        _delete(path)
    for entry in list(files(root)):
        if _temporary(entry.path) and time.time() - entry.used > _FORSAKEN:
            _delete(entry.path)
    for entry in list(files(root / "builds")):
        if _temporary(entry.path):
            continue
        with contextlib.suppress(OSError):
            sha256 = entry.path.read_bytes()[:64].decode("ascii", "replace")
            if not (root / "artifacts" / sha256[:2] / f"{sha256}.safetensors").is_file():
                entry.path.unlink()


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _folders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir() and not path.is_symlink()]


def _temporary(path: Path) -> bool:
    return path.name.endswith(".tmp")
