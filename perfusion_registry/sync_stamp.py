"""What the last sync of a project found whole, so that the next one that finds nothing changed is instant.

    synced/<digest of the lockfile's path>    in the store: a digest of manifest and lockfile; fingerprints

Only a sync that changes nothing believes it. Every read that feeds a picture hashes its bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass

_FORMAT = b"1"
_SETTLED_NS = 2_000_000_000  # a file as young as this may change again within its time stamp


@dataclass(frozen=True)
class ProjectFiles:
    """The files of a project, found without reading them as TOML. manifest: None for a lockfile alone."""

    manifest: str | None
    lockfile: str

    @classmethod
    def find(cls, start: str | None) -> ProjectFiles | None:
        """The project of `start` (default: the working directory) or of its nearest parent that has one."""
        folder = os.path.abspath(start or ".")
        if start and not os.path.isdir(folder):
            return None  # the command says what is wrong with it
        while True:
            manifest, lockfile = (os.path.join(folder, name) for name in ("perfusion.toml", "perfusion.lock"))
            if os.path.isfile(manifest):
                return cls(manifest, lockfile)
            if os.path.isfile(lockfile):
                return cls(None, lockfile)
            if folder == os.path.dirname(folder):
                return None
            folder = os.path.dirname(folder)

    def digest(self) -> str:
        """The digest of the manifest's and the lockfile's bytes; OSError where one cannot be read."""
        digest = hashlib.sha256(_FORMAT)
        for path in (self.manifest, self.lockfile):
            data = b""
            if path is not None:
                with open(path, "rb") as file:
                    data = file.read()
            digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()

    def stamp_file(self, store: str) -> str:
        """Where the store at that path keeps what is remembered of this project."""
        name = hashlib.sha256(os.fsencode(os.path.realpath(self.lockfile))).hexdigest()
        return os.path.join(store, "synced", name)


def load_stamp(files: ProjectFiles, store: str) -> list[str] | None:
    """The names that the last sync found whole, if no file that it looked at has changed since; else None."""
    try:
        with open(files.stamp_file(store), "rb") as file:
            stamp = json.loads(file.read())
        if stamp["digest"] != files.digest():
            return None
        for path, fingerprint in stamp["files"]:
            if _fingerprint(path) != fingerprint:
                return None
        return [str(name) for name in stamp["names"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def save_stamp(
    files: ProjectFiles, store: str, names: Iterable[str], paths: Iterable[str], digest: str
) -> None:
    """Remember that the files at `paths` were found whole under manifest and lockfile of that digest.

    A stamp that cannot be written only costs time.
    """
    target = files.stamp_file(store)
    with contextlib.suppress(OSError):
        seen = [(path, _fingerprint(path)) for path in paths]
        if any(
            time.time_ns() - fingerprint[1] < _SETTLED_NS
            for path, fingerprint in seen
            if path.endswith(".toml")
        ):
            return
        stamp = {"digest": digest, "names": list(names), "files": seen}
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=os.path.dirname(target), delete=False) as file:
            json.dump(stamp, file)
        os.replace(file.name, target)


def _fingerprint(path: str) -> list[int]:
    """The size, the time of the last change and the number of a file."""
    status = os.stat(path)
    return [status.st_size, max(status.st_mtime_ns, status.st_ctime_ns), status.st_ino]
