"""A publication in the making: one commit of the Hub, and what the next one shall have over it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from perfusion_registry.registries.bucket import Bucket, Found, NotModified
from perfusion_registry.registries.memory import identity
from perfusion_registry.registries.release import LARGEST_BLOB


class Staging:
    """A bucket that reads what `commit` has and keeps what is written to itself, in `written`.

    Nothing leaves this machine: a compare and swap against it always goes well, and it is the commit made of
    `written`, on top of the one that was read, that goes well or not. A tag is the SHA-256 of the bytes.
    """

    def __init__(self, commit: Bucket, *, url: str) -> None:
        self._commit = commit
        self._url = url
        self.written: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        """The repository as the user named it."""
        return self._url

    @property
    def identity(self) -> str:
        """The repository, whatever the commit."""
        return identity(self._url)

    def get(self, key: str, *, limit: int, known: str | None = None) -> Found | NotModified | None:
        """The object as it is to be, or as the commit has it."""
        data = self.written.get(key)
        if data is None:
            found = self._commit.get(key, limit=limit)
            if not isinstance(found, Found):
                return found
            data = found.data
        tag = hashlib.sha256(data).hexdigest()
        return NotModified() if tag == known else Found(data, tag)

    def stream(self, key: str, *, limit: int) -> Iterator[bytes] | None:
        """The object in one piece."""
        found = self.get(key, limit=limit)
        return iter([found.data]) if isinstance(found, Found) else None

    def check_writable(self) -> None:
        """Whether the Hub takes the commit shows when it is made."""

    def create(self, key: str, data: bytes) -> bool:
        """Stage a new object; False where the commit has it, or it is staged."""
        if self.get(key, limit=max(LARGEST_BLOB, len(data))) is not None:
            return False
        self.written[key] = data
        return True

    def replace(self, key: str, data: bytes, tag: str) -> bool:
        """Stage other bytes for an object."""
        found = self.get(key, limit=LARGEST_BLOB)
        if not isinstance(found, Found) or found.tag != tag:
            return False
        self.written[key] = data
        return True
