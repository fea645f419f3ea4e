"""What a sparse registry needs of the place where its bytes are; nothing here ever deletes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Found:
    """An object's bytes and its tag, which changes when they do."""

    data: bytes
    tag: str


@dataclass(frozen=True)
class NotModified:
    """The object still has the tag that the caller knows."""


class Bucket(Protocol):
    """Objects by key, a relative path of `/`-separated plain ASCII names.

    Every method raises RegistryError when the place cannot be reached or refuses, and TransferError when
    another try may go well; both only after the retries that the place is worth.
    """

    @property
    def url(self) -> str:
        """The place as the user named it; it has no credentials."""

    @property
    def identity(self) -> str:
        """What tells the place from every other on this machine, for what is remembered of it."""

    def get(self, key: str, *, limit: int, known: str | None = None) -> Found | NotModified | None:
        """The object, at most `limit` bytes of it, else RegistryError; None where there is none.

        known: the tag of the copy that the caller has. The same key asked again may be looked for elsewhere,
        where there is a mirror.
        """

    def stream(self, key: str, *, limit: int) -> Iterator[bytes] | None:
        """The object in pieces, at most `limit` bytes of it, else RegistryError; None where there is none."""

    def check_writable(self) -> None:
        """Raise RegistryError, with what to do instead, where nothing can be written here."""

    def create(self, key: str, data: bytes) -> bool:
        """Write a new object, whole or not at all; False where there is one already, which stays as it is."""

    def replace(self, key: str, data: bytes, tag: str) -> bool:
        """Write over the object with this tag, whole or not at all; False where it has another by now."""
