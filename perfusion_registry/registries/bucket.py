"""What a sparse registry needs of the place where its bytes are stored; nothing here ever deletes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class StoredObject:
    """An object's bytes and its tag, which changes when they do."""

    data: bytes
    tag: str


@dataclass(frozen=True)
class NotModified:
    """The object still has the tag that the caller knows."""


class Bucket(Protocol):
    """Objects by key, a relative path of `/`-separated plain ASCII names.

    Every method raises RegistryError when the place cannot be reached or refuses, and TransferError when a
    later try may succeed; both only after the retries that make sense for the place.
    """

    @property
    def url(self) -> str:
        """The place as the user named it; it has no credentials."""

    @property
    def identity(self) -> str:
        """What distinguishes the place from every other on this machine, for what is remembered of it."""

    def get(self, key: str, *, limit: int, known_tag: str | None = None) -> StoredObject | NotModified | None:
        """The object, at most `limit` bytes of it, else RegistryError; None where there is none.

        known_tag: the tag of the copy that the caller has. A key that is requested again may come
        from another mirror, where there is one.
        """

    def stream(self, key: str, *, limit: int) -> Iterator[bytes] | None:
        """The object in pieces, at most `limit` bytes of it, else RegistryError; None where there is none."""

    def check_writable(self) -> None:
        """Raise RegistryError, with a hint at what to do instead, where nothing can be written."""

    def create(self, key: str, data: bytes) -> bool:
        """Write a new object, whole or not at all; False where there is one already, which stays as it is."""

    def replace(self, key: str, data: bytes, tag: str) -> bool:
        """Write over the object with this tag, whole or not at all; False where it has another by now."""
