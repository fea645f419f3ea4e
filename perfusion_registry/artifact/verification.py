"""Verifying a store: every artifact is hashed, and what is damaged is set aside."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from perfusion_registry.artifact.disk_usage import files
from perfusion_registry.artifact.locking import write_lock
from perfusion_registry.recipe.writing import make_folder, write_error
from perfusion_registry.reporter import Reporter, Silent

_ARTIFACT = re.compile(r"([0-9a-f]{64})\.safetensors\Z")
_RECORD = re.compile(rb"[0-9a-f]{64}\n\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Damage:
    """A file that is not what its name says. quarantine: where it is now; None where it was left."""

    path: Path
    what: str
    quarantine: Path | None = None


@dataclass(frozen=True)
class Verification:
    """What a look at the whole store found."""

    artifacts: int
    records: int
    damaged: tuple[Damage, ...]


def verify_store(root: Path, *, dry_run: bool = False, reporter: Reporter | None = None) -> Verification:
    """Hash every artifact and read every record of the store at `root`.

    What is damaged is moved to `quarantine/`, after a second look with the store held alone; the next build
    or sync then makes or fetches it again. dry_run: leave everything where it is.
    """
    reporter = reporter or Silent()
    artifacts = [entry.path for entry in files(root / "artifacts") if not _temporary(entry.path)]
    records = [entry.path for entry in files(root / "builds") if not _temporary(entry.path)]
    damaged = []
    with reporter.stage("Hashing the store", len(artifacts) + len(records)) as stage:
        for path in (*artifacts, *records):
            what = _damage(root, path)
            if what is not None:
                damaged.append(Damage(path, what))
            stage.advance(1, path.name[:12])
    if damaged and not dry_run:
        with write_lock(root, reporter):
            damaged = [
                _set_aside(root, path, what)
                for damage in damaged
                if (what := _damage(root, path := damage.path))
            ]
    return Verification(len(artifacts), len(records), tuple(damaged))


def _damage(root: Path, path: Path) -> str | None:
    """What is wrong with a file of the store, or None; a file that is gone is not damaged."""
    try:
        if path.is_relative_to(root / "builds"):
            whole = _DIGEST.match(path.name) and _RECORD.match(path.read_bytes()[:100])
            return None if whole else "it is not a record of a build"
        named = _ARTIFACT.match(path.name)
        if named is None or path.parent.name != named[1][:2]:
            return "its name is not that of an artifact"
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    return None if digest == named[1] else f"its bytes have the hash {digest[:12]}"


def _set_aside(root: Path, path: Path, what: str) -> Damage:
    folder = root / "quarantine"
    make_folder(folder)
    target = folder / path.name
    number = 1
    while target.exists():
        number += 1
        target = folder / f"{path.name}.{number}"
    try:
        os.replace(path, target)
    except OSError as error:
        raise write_error(error, path) from error
    return Damage(path, what, target)


def _temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".tmp")
