"""A publication being prepared: one commit of the Hub, and the changes that the next one is to make."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from perfusion_registry.registries.bucket import Bucket, NotModified, StoredObject
from perfusion_registry.registries.memory import identity
from perfusion_registry.registries.release import LARGEST_BLOB


class Staging:
    """A bucket that reads what `commit` has and keeps what is written to itself, in `written`.

    Nothing leaves this machine: a compare and swap against it always succeeds. What succeeds or fails is the
    commit of `written`, on top of the one that was read. A tag is the SHA-256 of the bytes.
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

    def get(self, key: str, *, limit: int, known_tag: str | None = None) -> StoredObject | NotModified | None:
        """The object as it is to be, or as the commit has it."""
        data = self.written.get(key)
        if data is None:
            committed = self._commit.get(key, limit=limit)
            if not isinstance(committed, StoredObject):
                return committed
            data = committed.data
        tag = hashlib.sha256(data).hexdigest()
        return NotModified() if tag == known_tag else StoredObject(data, tag)

    def stream(self, key: str, *, limit: int) -> Iterator[bytes] | None:
        """The object in one piece."""
        current = self.get(key, limit=limit)
        return iter([current.data]) if isinstance(current, StoredObject) else None

    def check_writable(self) -> None:
        """Do nothing: whether the Hub accepts the commit shows when it is made."""

    def create(self, key: str, data: bytes) -> bool:
        """Stage a new object; False where the commit has it, or it is staged."""
        if self.get(key, limit=max(LARGEST_BLOB, len(data))) is not None:
            return False
        self.written[key] = data
        return True

    def replace(self, key: str, data: bytes, tag: str) -> bool:
        """Stage other bytes for an object."""
        current = self.get(key, limit=LARGEST_BLOB)
        if not isinstance(current, StoredObject) or current.tag != tag:
            return False
        self.written[key] = data
        return True
