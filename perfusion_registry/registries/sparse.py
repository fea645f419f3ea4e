"""The sparse registry: index lines and content-addressed blobs, over any bucket.

    perf-registry.json              format and name
    index/<te>/<teddy>.jsonl        the releases of one concept, an append-only log (`index`)
    blobs/<aa>/<sha256>             the bytes
    catalogue.jsonl                 one line a concept, for searching; derived, may lag (`catalogue`)

A publication writes the blob, reads it back, and appends to the index last, by compare and swap: at every
moment the registry is whole, and of two publishers of one version exactly one wins.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from perfusion_registry.recipe.name import canonical_name
from perfusion_registry.registries.backoff import BACKOFF, CONTENTION
from perfusion_registry.registries.bucket import Bucket, NotModified, StoredObject
from perfusion_registry.registries.catalogue import (
    CATALOGUE_KEY,
    LARGEST_CATALOGUE,
    read_catalogue,
    renewed,
)
from perfusion_registry.registries.index import (
    LARGEST_INDEX,
    LONGEST_REASON,
    Event,
    Index,
    Publish,
    Unyank,
    Yank,
    index_key,
    read_index,
)
from perfusion_registry.registries.known_index import reread
from perfusion_registry.registries.marker import RegistryMarker, check_marker
from perfusion_registry.registries.memory import Memory
from perfusion_registry.registries.registry import (
    CatalogueEntry,
    Listing,
    RegistryError,
    ensure_same,
    never_published,
)
from perfusion_registry.registries.release import LARGEST_BLOB, Release, blobs_of

_READS = 3
_ROUNDS = 64
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


class SparseRegistry:
    """A registry in a bucket; `cache` is the folder where it remembers what it saw.

    name: what the registry calls itself, if the first publication makes it.
    """

    def __init__(self, bucket: Bucket, *, cache: Path, name: str = "registry") -> None:
        self._bucket = bucket
        self._memory = Memory(cache, bucket.identity)
        self._name = name
        self._checked = False

    @property
    def url(self) -> str:
        """The place as the manifest and the lockfile name it."""
        return self._bucket.url

    def versions(self, name: str) -> Sequence[Listing]:
        """All releases of a concept, oldest version first; empty where the registry does not know it."""
        name = canonical_name(name)
        key = index_key(name)
        self._check()
        for attempt in range(_READS):
            copy = self._memory.recall(key)
            stored = self._bucket.get(key, limit=LARGEST_INDEX, known_tag=copy.tag if copy else None)
            try:
                if isinstance(stored, NotModified):
                    return reread(copy.data if copy else b"", name, self._where(key))
                return self._verified(name, stored, copy.data if copy else b"").sorted()
            except RegistryError:
                if attempt == _READS - 1:
                    raise
                time.sleep(BACKOFF.wait(attempt + 1))
        raise AssertionError("unreachable")

    def blob(self, release: Release) -> Iterator[bytes]:
        """The bytes of a release's blob in pieces, not yet hashed; more than its size never come."""
        pieces = self._bucket.stream(blob_key(release.sha256), limit=release.size)
        if pieces is None:
            raise RegistryError(
                f"the registry lists {release.name} {release.version} and does not have its bytes",
                where=f"{self.url}, {blob_key(release.sha256)}",
                hint="tell the registry's keeper, or try again later if it is a mirror",
            )
        return pieces

    def publish(self, release: Release, blob: bytes, preview: bytes | None = None) -> bool:
        """Publish a release: its blobs, their verification, the index, and the catalogue.

        False where the very same release is there already. Raises AlreadyPublishedError, naming both
        digests, when the version is there with other bytes, and RegistryError when the blob is not what
        `release` says.
        """
        name = canonical_name(release.name)
        try:
            blobs = blobs_of(release, blob, preview)
        except ValueError as error:
            raise RegistryError(str(error)) from error
        event = Publish(release=Release.model_validate_json(release.model_dump_json(exclude_none=True)))
        Index(name).appended(event)  # what an index cannot hold is refused before anything is written
        self._bucket.check_writable()
        self._check(make=True)

        def decide(index: Index) -> Event | None:
            listing = index.find(release.version)
            if listing is None:
                return event
            ensure_same(listing.release, release, self.url)
            return None

        # Checked before the blob is sent, and again, for good, with the compare and swap.
        if decide(self._current(name)[0]) is None:
            return False
        for named, data in blobs:
            self._put_blob(named, data)
        return self._append(name, decide)

    def yank(self, name: str, version: str, *, reason: str = "") -> bool:
        """Hide a version from resolution, never from a lock; False where it is yanked already."""
        name = canonical_name(name)
        if len(reason) > LONGEST_REASON:
            raise RegistryError(f"the reason has {len(reason)} characters; {LONGEST_REASON} are allowed")

        def decide(index: Index) -> Event | None:
            listing = self._published(index, version)
            if listing.yanked:
                return None
            return Yank(name=name, version=listing.version, reason=reason)

        self._bucket.check_writable()
        self._check()
        return self._append(name, decide)

    def unyank(self, name: str, version: str) -> bool:
        """Show a version again; False where it is not yanked."""
        name = canonical_name(name)

        def decide(index: Index) -> Event | None:
            listing = self._published(index, version)
            if not listing.yanked:
                return None
            return Unyank(name=name, version=listing.version)

        self._bucket.check_writable()
        self._check()
        return self._append(name, decide)

    def catalogue(self) -> tuple[CatalogueEntry, ...]:
        """Every concept of the registry, by name."""
        self._check()
        copy = self._memory.recall(CATALOGUE_KEY)
        stored = self._bucket.get(
            CATALOGUE_KEY, limit=LARGEST_CATALOGUE, known_tag=copy.tag if copy else None
        )
        if isinstance(stored, NotModified):
            return read_catalogue(copy.data if copy else b"", self.url)
        entries = read_catalogue(stored.data if stored else b"", self.url)
        if stored is not None:
            self._memory.remember(CATALOGUE_KEY, stored.data, stored.tag)
        return entries

    def _check(self, *, make: bool = False) -> None:
        """Raise RegistryError unless a registry that this perf knows is here; `make` one where none is."""
        if not self._checked:
            check_marker(self._bucket, make=RegistryMarker(name=self._name[:200]) if make else None)
            self._checked = True

    def _read(self, name: str, data: bytes) -> Index:
        name = canonical_name(name)
        return read_index(data, name, self._where(index_key(name)))

    def _where(self, key: str) -> str:
        return f"{self.url}, {key}"

    def _verified(self, name: str, stored: StoredObject | None, before: bytes) -> Index:
        """The index that was fetched, parsed and compared with what this machine saw before."""
        data = stored.data if stored else b""
        index = self._read(name, data)
        if not data and not before:
            return index
        newest = self._memory.extend(
            index_key(index.name), data, stored.tag if stored else None, fetched_after=before
        )
        return index if newest == data else self._read(name, newest)

    def _current(self, name: str) -> tuple[Index, StoredObject | None]:
        """The index as it is in the bucket now, whatever is remembered, with its tag."""
        key = index_key(name)
        copy = self._memory.recall(key)
        stored = self._bucket.get(key, limit=LARGEST_INDEX)
        if isinstance(stored, NotModified):
            raise RegistryError("the registry gave no index where one was asked for", where=self.url)
        self._verified(name, stored, copy.data if copy else b"")
        return self._read(name, stored.data if stored else b""), stored

    def _append(self, name: str, decide: Callable[[Index], Event | None]) -> bool:
        """Append the event that `decide` makes of the current index; False where it makes none."""
        key = index_key(name)
        for attempt in range(_ROUNDS):
            index, stored = self._current(name)
            event = decide(index)
            if event is None:
                return False
            grown = index.appended(event)
            if (
                self._bucket.create(key, grown.data)
                if stored is None
                else self._bucket.replace(key, grown.data, stored.tag)
            ):
                self._renew_catalogue(grown)
                return True
            time.sleep(CONTENTION.wait(attempt + 1))
        raise RegistryError(
            f"too many others are publishing `{name}` at the same time", where=self.url, hint="try again"
        )

    def _put_blob(self, release: Release, blob: bytes) -> None:
        """Write the blob and read it back; damaged bytes that are there already are replaced."""
        key = blob_key(release.sha256)
        self._bucket.create(key, blob)
        for _ in range(2):
            stored = self._bucket.get(key, limit=LARGEST_BLOB)
            if isinstance(stored, StoredObject):
                if stored.data == blob:
                    return
                self._bucket.replace(key, blob, stored.tag)
        raise RegistryError(
            f"the registry does not keep the bytes of {release.name} {release.version} as they were sent",
            where=f"{self.url}, {key}",
            hint="nothing was published; tell the registry's keeper",
        )

    def _published(self, index: Index, version: str) -> Listing:
        listing = index.find(version)
        if listing is None:
            raise never_published(index.name, version, index.sorted(), self.url)
        return listing

    def _renew_catalogue(self, index: Index) -> None:
        """Bring the concept's line in the catalogue up to date.

        The release is published already: a catalogue that cannot be written now is written by the next one.
        """
        try:
            for attempt in range(_ROUNDS):
                stored = self._bucket.get(CATALOGUE_KEY, limit=LARGEST_CATALOGUE)
                before = stored.data if isinstance(stored, StoredObject) else b""
                after = renewed(before, index)
                if after == before or len(after) > LARGEST_CATALOGUE:
                    return
                if (
                    self._bucket.replace(CATALOGUE_KEY, after, stored.tag)
                    if isinstance(stored, StoredObject)
                    else self._bucket.create(CATALOGUE_KEY, after)
                ):
                    return
                time.sleep(CONTENTION.wait(attempt + 1))
        except RegistryError:
            return


def blob_key(sha256: str) -> str:
    """Where the bytes with this SHA-256 are."""
    if not _DIGEST.match(sha256):
        raise RegistryError(f"`{sha256[:80]}` is not a SHA-256 digest")
    return f"blobs/{sha256[:2]}/{sha256}"
