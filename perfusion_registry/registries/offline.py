"""A registry as this machine last saw it, for work without a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from perfusion_registry.recipe.name import canonical_name
from perfusion_registry.registries.catalogue import CATALOGUE_KEY, read_catalogue
from perfusion_registry.registries.index import index_key
from perfusion_registry.registries.known_index import reread
from perfusion_registry.registries.memory import Copy, Memory, identity
from perfusion_registry.registries.registry import CatalogueEntry, Listing, RegistryError
from perfusion_registry.registries.release import Release


class OfflineRegistry:
    """What this machine remembers of the registry at `url`; it opens no socket."""

    def __init__(self, url: str, *, cache: Path) -> None:
        self._url = url
        self._memory = Memory(cache, identity(url))

    @property
    def url(self) -> str:
        """The place as the manifest and the lockfile name it."""
        return self._url

    def versions(self, name: str) -> Sequence[Listing]:
        """All releases that were there when the concept was last looked up; RegistryError if it never was."""
        name = canonical_name(name)
        key = index_key(name)
        data = self._recall(key, f"index of `{name}`").data
        return reread(data, name, f"{self._url}, {key}")

    def blob(self, release: Release) -> Iterator[bytes]:
        """Raise RegistryError: no bytes are remembered beside those in the store."""
        is_preview = release.preview is not None and release.preview.sha256 == release.sha256
        what = "the preview" if is_preview else "the bytes"
        raise self._offline(f"{what} of {release.name} {release.version}")

    def publish(self, release: Release, blob: bytes, preview: bytes | None = None) -> bool:
        """Raise RegistryError."""
        raise self._offline("publishing")

    def yank(self, name: str, version: str, *, reason: str = "") -> bool:
        """Raise RegistryError."""
        raise self._offline("yanking")

    def unyank(self, name: str, version: str) -> bool:
        """Raise RegistryError."""
        raise self._offline("unyanking")

    def catalogue(self) -> tuple[CatalogueEntry, ...]:
        """The catalogue as it was last seen."""
        return read_catalogue(self._recall(CATALOGUE_KEY, "catalogue").data, self._url)

    def _recall(self, key: str, what: str) -> Copy:
        copy = self._memory.recall(key)
        if copy is None:
            raise self._offline(f"the registry's {what}, which this machine has not seen,")
        return copy

    def _offline(self, what: str) -> RegistryError:
        return RegistryError(
            f"{what} needs the network, and perf is working offline",
            where=self._url,
            hint="leave out --offline (or unset PERF_OFFLINE), or `perf vendor` while there is a network",
        )
