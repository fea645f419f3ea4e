"""What an OCI registry has shown this machine: the digest of every version's manifest, remembered for good.

Besides, for work without a network, an index and a catalogue as a sparse registry would have them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from perfusion_registry.file_lock import file_lock
from perfusion_registry.recipe.writing import make_folder, write_error
from perfusion_registry.registries.catalogue import CATALOGUE_KEY, catalogue_bytes
from perfusion_registry.registries.index import Index, Publish, Unyank, Yank, index_key, read_index
from perfusion_registry.registries.memory import Memory, identity
from perfusion_registry.registries.registry import CatalogueEntry, Listing, RegistryError

_DIGESTS = TypeAdapter(dict[str, str])


class SeenDigests:
    """The digests, by concept and version, that the registry at `url` has shown; kept below `cache`."""

    def __init__(self, cache: Path, url: str) -> None:
        self._memory = Memory(cache, identity(url))

    def of(self, name: str) -> dict[str, str]:
        """The manifest digests that were seen, by version."""
        copy = self._memory.recall(_key(name))
        try:
            return _DIGESTS.validate_json(copy.data) if copy else {}
        except ValidationError:
            return {}

    def keep(self, name: str, current: Mapping[str, str], *, before: Mapping[str, str]) -> None:
        """Remember the current digests; `before` are those remembered when the registry was asked.

        Raises RegistryError when a version that was seen is gone, or has another manifest.
        """
        lost = sorted(set(before) - set(current))
        if lost:
            raise self._rewritten(name, f"no longer has {name} {lost[0]}, which it had before")
        if all(before.get(version) == digest for version, digest in current.items()):
            return
        folder = self._memory.folder
        make_folder(folder)
        lock = folder / ".lock"
        try:
            with file_lock(lock):
                remembered = self.of(name)
                for version, digest in sorted(current.items()):
                    if remembered.get(version, digest) != digest:
                        raise self._rewritten(
                            name,
                            f"has another {name} {version} than before: {digest[7:19]} now, "
                            f"{remembered[version][7:19]} then",
                        )
                self._memory.remember(_key(name), _DIGESTS.dump_json({**remembered, **current}), None)
        except OSError as error:
            raise write_error(error, lock) from error

    def keep_listings(self, name: str, listings: Sequence[Listing]) -> None:
        """Remember the listings for work without a network, as an index: what is new is appended."""
        key = index_key(name)
        copy = self._memory.recall(key)
        try:
            index = read_index(copy.data if copy else b"", name, key)
        except RegistryError:
            index = Index(name)
        unchanged = index.data
        for listing in listings:
            release = listing.release
            before = index.find(release.version)
            if before is None:
                index = index.appended(Publish(release=release))
            if listing.yanked and (before is None or not before.yanked):
                index = index.appended(Yank(name=name, version=release.version, reason=listing.reason))
            elif before is not None and before.yanked and not listing.yanked:
                index = index.appended(Unyank(name=name, version=release.version))
        if index.data != unchanged:
            self._memory.remember(key, index.data, None)

    def keep_catalogue(self, entries: Sequence[CatalogueEntry]) -> None:
        """Remember the catalogue for work without a network."""
        self._memory.remember(CATALOGUE_KEY, catalogue_bytes(entries), None)

    def _rewritten(self, name: str, what: str) -> RegistryError:
        return RegistryError(
            f"the registry {what}; a published version never changes",
            where=name,
            hint="ask the registry's keeper why; if it was truly made anew, delete what this machine "
            f"remembers of it: {self._memory.path(_key(name))}",
        )


def _key(name: str) -> str:
    return f"tags/{name}.json"
