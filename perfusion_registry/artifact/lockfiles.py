"""The lockfiles that this machine knows: what they name is never pruned.

    projects/<digest of the path>    the path of one lockfile

A lockfile that is gone no longer counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from pathlib import Path

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.writing import make_folder, replace_bytes

_DIGEST = re.compile(rb"\b[0-9a-f]{64}\b")
_YOUNG = 24 * 3600.0  # seconds for which a lockfile that is not there may still be on its way


def note_lockfile(root: Path, path: Path) -> None:
    """Remember in the store at `root` that the lockfile `path` is in use; it need not be there yet.

    Cheap where it is known already. A store that cannot be written cannot be pruned, and learns nothing.
    """
    text = os.fsencode(path.resolve())
    note = root / "projects" / hashlib.sha256(text).hexdigest()
    if note.is_file():
        return
    with contextlib.suppress(PerfError):
        make_folder(note.parent)
        replace_bytes(note, text)


def known_lockfiles(root: Path) -> list[Path]:
    """The lockfiles in use that are there, sorted."""
    return sorted(path for note in _notes(root) if (path := _noted(note)) is not None and path.is_file())


def locked_digests(root: Path) -> set[str]:
    """Every SHA-256 that a known lockfile names, in any block, even in one left in conflict by a merge.

    Raises PerfError for a lockfile that cannot be read: what it names is not known then.
    """
    digests: set[str] = set()
    for path in known_lockfiles(root):
        try:
            digests.update(digest.decode() for digest in _DIGEST.findall(path.read_bytes()))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise PerfError(
                f"a known lockfile cannot be read, so nothing can be pruned: {error.strerror or error}",
                where=str(path),
                hint="make it readable, or delete it",
            ) from error
    return digests


def forget_lost(root: Path) -> None:
    """Forget the lockfiles that have been gone for a day."""
    for note in _notes(root):
        path = _noted(note)
        with contextlib.suppress(OSError):
            if (path is None or not path.exists()) and time.time() - note.stat().st_mtime > _YOUNG:
                note.unlink()


def _notes(root: Path) -> list[Path]:
    try:
        return [path for path in (root / "projects").iterdir() if not path.name.startswith(".")]
    except OSError:
        return []


def _noted(note: Path) -> Path | None:
    try:
        text = os.fsdecode(note.read_bytes()[:8192])
    except OSError:
        return None
    return Path(text) if text and "\0" not in text and os.path.isabs(text) else None
