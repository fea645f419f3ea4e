"""What registries answered before: for speed, for offline work, and against rollbacks.

    registries/<digest of the place>/<key>     a line of JSON about the copy, then its bytes

A file is replaced whole. One that is damaged counts as absent.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pydantic_core import from_json

from perfusion_registry.file_lock import file_lock
from perfusion_registry.recipe.writing import make_folder, replace_bytes, write_error
from perfusion_registry.registries.registry import RegistryError

_ELSEWHERE = "free some space, or set PERF_CACHE_DIR to a folder that can be written"


@dataclass(frozen=True)
class Copy:
    """The bytes of an object when it was last fetched, and its tag then."""

    data: bytes
    tag: str | None


def identity(url: str) -> str:
    """What distinguishes a registry at an address from every other: of mirrors, the first."""
    return url.split(" ")[0].rstrip("/")


class Memory:
    """Copies of the objects of one registry, the one that `identity` names, below the folder `cache`."""

    def __init__(self, cache: Path, identity: str) -> None:
        digest = hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()
        self.folder = cache / "registries" / digest[:32]

    def path(self, key: str) -> Path:
        """Where the copy of `key` is, or would be."""
        return self.folder.joinpath(*key.split("/"))

    def recall(self, key: str) -> Copy | None:
        """The copy, if there is a whole one."""
        try:
            with open(f"{self.folder}/{key}", "rb", buffering=0) as file:
                head, newline, data = file.readall().partition(b"\n")
        except OSError:
            return None
        try:
            about = from_json(head)
            whole = newline and about["sha256"] == hashlib.sha256(data).hexdigest()
            tag = about["tag"]
        except (ValueError, KeyError, TypeError):
            return None
        return Copy(data, tag if isinstance(tag, str) else None) if whole else None

    def remember(self, key: str, data: bytes, tag: str | None) -> None:
        """Keep a copy in place of the one before."""
        path = self.path(key)
        about = json.dumps({"sha256": hashlib.sha256(data).hexdigest(), "tag": tag})
        make_folder(path.parent, hint=_ELSEWHERE)
        replace_bytes(path, about.encode() + b"\n" + data, hint=_ELSEWHERE)

    def extend(self, key: str, data: bytes, tag: str | None, *, fetched_after: bytes) -> bytes:
        """Keep a copy of an object that only ever grows; the newest bytes that are known.

        fetched_after: the copy (b"" for none) that was here before `data` was fetched. Raises RegistryError
        when `data` does not begin with it: the registry lost or changed what it had.
        """
        if not data.startswith(fetched_after):
            raise self._rewritten(key, older=fetched_after.startswith(data))
        make_folder(self.folder, hint=_ELSEWHERE)
        lock = self.folder / ".lock"
        try:
            with file_lock(lock):
                copy = self.recall(key)
                if copy is not None and copy.data.startswith(data) and copy.tag == tag:
                    return copy.data
                if copy is not None and not data.startswith(copy.data):
                    if copy.data.startswith(data):
                        return copy.data  # another process asked later and has a newer one
                    raise self._rewritten(key, older=False)
                self.remember(key, data, tag)
        except OSError as error:
            raise write_error(error, lock, _ELSEWHERE) from error
        return data

    def _rewritten(self, key: str, *, older: bool) -> RegistryError:
        return RegistryError(
            "the registry's index is older than the one it gave before: it was rolled back, or a mirror lags"
            if older
            else "the registry's index was rewritten: it lost or changed releases that it had before",
            where=key,
            hint="ask the registry's keeper why; if it was truly made anew, delete what this machine "
            f"remembers of it: {self.path(key)}",
        )
