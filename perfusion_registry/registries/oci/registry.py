"""Concepts in an OCI registry (GHCR, Harbor, Docker's): `oci://host[:port]/namespace`.

    <name>:<version>            a release: an artifact manifest, its config the release's JSON, its one layer
                                the blob (`manifest`); the tag never changes
    <name>:_claim.<version>     which publisher of the version was first (`claim`)
    <name>:_yank.<version>      a note whether the version is yanked: a tag of its own, because tags can be
                                overwritten everywhere and deleted almost nowhere
    perf.catalogue:<name>       one tag for every concept, the catalogue; no concept's name has a dot

All repositories are below the namespace. The catalogue is a set of tags and not a file, so that publishers
cannot lose each other's entries. The registry's own `_catalog` counts as well, where there is one. Tags that
are not PEP 440 versions, and versions that are not perf artifacts, are skipped.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from packaging.utils import canonicalize_version
from packaging.version import Version as ParsedVersion

from perfusion_registry.recipe.name import canonical_name
from perfusion_registry.registries.backoff import BACKOFF, Backoff
from perfusion_registry.registries.credentials import Credentials, credentials_for
from perfusion_registry.registries.index import LONGEST_REASON
from perfusion_registry.registries.oci.address import parse_oci_address
from perfusion_registry.registries.oci.catalogue import add_name, concept_names
from perfusion_registry.registries.oci.claim import SETTLE, claim
from perfusion_registry.registries.oci.client import oci_client
from perfusion_registry.registries.oci.manifest import (
    EMPTY,
    OciManifest,
    claimed_release,
    is_release,
    read_release,
    read_yank,
    release_bytes,
    release_config,
    release_manifest,
    yank_manifest,
)
from perfusion_registry.registries.oci.memory import SeenDigests
from perfusion_registry.registries.oci.tag import tag_version, version_tag, yank_tag
from perfusion_registry.registries.registry import (
    Backend,
    CatalogueEntry,
    Listing,
    RegistryError,
    TransferError,
    ensure_same,
    never_published,
)
from perfusion_registry.registries.release import Release, blobs_of

_AT_ONCE = 8
_LOOKS = 2

A = TypeVar("A")
B = TypeVar("B")


class OciRegistry:
    """The registry at `oci://host[:port]/namespace`; over HTTPS, but for this machine and `oci+http://`.

    credentials: a user name and password, or a token, which is sent as the password of the user `token`.
    cache: the folder where it remembers what it saw. settle: how many seconds a publisher waits for others
    (`claim`); all publishers to a registry wait as long. backoff: the pauses between tries. Raises
    RegistryError for another `url`.
    """

    def __init__(
        self,
        url: str,
        *,
        credentials: Credentials | None,
        cache: Path,
        settle: float = SETTLE,
        backoff: Backoff = BACKOFF,
    ) -> None:
        self._url = url
        self._address = parse_oci_address(url)
        self._client = oci_client(self._address, credentials, backoff)
        self._seen = SeenDigests(cache, url)
        self._settle = settle

    @property
    def url(self) -> str:
        """The place as the manifest and the lockfile name it."""
        return self._url

    def versions(self, name: str) -> tuple[Listing, ...]:
        """All releases of a concept, oldest version first; empty where the registry does not know it."""
        name = canonical_name(name)
        before = self._seen.of(name)
        current = self._listings(name)
        self._seen.keep(name, {listing.version: digest for listing, digest in current}, before=before)
        listings = sorted(
            (listing for listing, _ in current), key=lambda listing: ParsedVersion(listing.version)
        )
        for older, newer in itertools.pairwise(listings):
            if ParsedVersion(older.version) == ParsedVersion(newer.version):
                raise RegistryError(
                    f"the registry has two releases of one version: {name} {older.version} "
                    f"and {newer.version}",
                    where=self._where(name),
                    hint="tell the registry's keeper; one of the tags must go",
                )
        self._seen.keep_listings(name, listings)
        return tuple(listings)

    def blob(self, release: Release) -> Iterator[bytes]:
        """The bytes of a release's blob in pieces; TransferError at their end when they are others."""
        return self._client.blob(self._repository(release.name), f"sha256:{release.sha256}", release.size)

    def publish(self, release: Release, blob: bytes, preview: bytes | None = None) -> bool:
        """Publish a release: blobs, their verification, the manifest, the claim, the tag.

        False where the very same release is there already. Raises AlreadyPublishedError, naming both digests,
        when the version is there with other bytes, RegistryError when the blob is not what `release` says.
        """
        name = canonical_name(release.name)
        try:
            blobs = blobs_of(release, blob, preview)
        except ValueError as error:
            raise RegistryError(str(error)) from error
        repository, manifest = self._repository(name), release_manifest(release)
        version_tag(release.version)
        published = self._published(name, release.version)
        if published is not None:
            ensure_same(published.release, release, self.url)
            return False
        for data in (release_bytes(release), *(data for _, data in blobs)):
            self._client.upload(repository, data)
        for named, _ in blobs:
            self._client.whole(repository, f"sha256:{named.sha256}", named.size)  # hashed on the way
        if self._client.manifest(repository, manifest.digest) is None:
            self._client.put_manifest(repository, manifest.digest, manifest)
        winner = claim(
            self._client, repository, canonicalize_version(release.version), manifest, settle=self._settle
        )
        standing = self._finish(name, release.version, winner.digest)
        add_name(self._client, self._address.namespace, name)
        if winner.ours and standing == release:
            return True
        ensure_same(standing, release, self.url)
        return False

    def yank(self, name: str, version: str, *, reason: str = "") -> bool:
        """Hide a version from resolution, never from a lock; False where it is yanked already."""
        if len(reason) > LONGEST_REASON:
            raise RegistryError(f"the reason has {len(reason)} characters; {LONGEST_REASON} are allowed")
        return self._note(canonical_name(name), version, yanked=True, reason=reason)

    def unyank(self, name: str, version: str) -> bool:
        """Show a version again; False where it is not yanked."""
        return self._note(canonical_name(name), version, yanked=False, reason="")

    def catalogue(self) -> tuple[CatalogueEntry, ...]:
        """Every concept of the registry, by name, with its newest version that is not yanked."""
        newest = _map_threads(self._newest, concept_names(self._client, self._address.namespace))
        entries = tuple(CatalogueEntry.of(release) for release in newest if release is not None)
        self._seen.keep_catalogue(entries)
        return entries

    def _repository(self, name: str) -> str:
        return f"{self._address.namespace}/{canonical_name(name)}"

    def _where(self, name: str, tag: str | None = None) -> str:
        return f"{self.url.rstrip('/')}/{name}" + (f":{tag}" if tag else "")

    def _listings(self, name: str) -> list[tuple[Listing, str]]:
        """Every release of a concept with the digest of its manifest, in no order."""
        tags = frozenset(self._client.tags(self._repository(name)))
        versions = [version for version in map(tag_version, sorted(tags)) if version is not None]
        listings = _map_threads(lambda version: self._listing(name, version, tags), versions)
        return [listing for listing in listings if listing is not None]

    def _listing(self, name: str, version: str, tags: frozenset[str]) -> tuple[Listing, str] | None:
        """One release and the digest of its manifest; None for a tag that is not perf's."""
        repository, tag = self._repository(name), version_tag(version)
        manifest = self._client.manifest(repository, tag)
        looks = _LOOKS if tag in tags else 0
        for attempt in range(1, looks + 1):
            if manifest is not None:
                break
            self._client.pause(attempt)  # listed and not there: it is being written, or was just taken away
            manifest = self._client.manifest(repository, tag)
        if manifest is None or not is_release(manifest):
            return None
        release = self._release(name, version, manifest)
        note = self._client.manifest(repository, yank_tag(version)) if yank_tag(version) in tags else None
        yanked, reason = read_yank(note, self._where(name, yank_tag(version))) if note else (False, "")
        return Listing(release, yanked, reason if yanked else ""), manifest.digest

    def _release(self, name: str, version: str, manifest: OciManifest) -> Release:
        """What a release's manifest says, from the JSON embedded in it or else from its config blob."""
        where = self._where(name, version_tag(version))
        config = release_config(manifest, where)
        data = config.embedded()
        if data is None:
            data = self._client.whole(self._repository(name), config.digest, config.size)
        return read_release(manifest, data, name, version, where)

    def _published(self, name: str, version: str) -> Listing | None:
        """The listing of that version, however it is spelled (1.0 is 1.0.0)."""
        tags = frozenset(self._client.tags(self._repository(name)))
        spelled = {version} | {
            other
            for other in map(tag_version, tags)
            if other is not None and ParsedVersion(other) == ParsedVersion(version)
        }
        for other in sorted(spelled):
            # A tag is looked up even where it is not listed: lists may lag.
            listing = self._listing(name, other, tags)
            if listing is not None:
                return listing[0]
        return None

    def _finish(self, name: str, version: str, digest: str) -> Release:
        """Put the tag of the release that won, unless that was done; the release that the version now is."""
        repository = self._repository(name)
        standing = self._published(name, version)
        if standing is not None:
            return standing.release
        winner = self._client.manifest(repository, digest)
        where = self._where(name, digest)
        spelled = claimed_release(winner, where) if winner is not None else version
        if winner is None or canonicalize_version(spelled) != canonicalize_version(version):
            raise RegistryError(
                f"`{name}` {version} was claimed for something that is not a release of it",
                where=where,
                hint="delete the claim, or publish another version",
            )
        release = self._release(name, spelled, winner)
        tag = version_tag(spelled)
        self._client.put_manifest(repository, tag, winner)
        # While another publisher puts the same tag, it may be gone for a moment.
        read_back = self._client.manifest(repository, tag) or self._client.manifest(repository, tag)
        if read_back is None or read_back.digest != digest:
            raise TransferError(
                "the registry does not keep the tag that it was given",
                where=self._where(name, tag),
                hint="look with `perf info`, then publish again",
            )
        return release

    def _note(self, name: str, version: str, *, yanked: bool, reason: str) -> bool:
        """Write whether a version is yanked; False where that is so already."""
        repository = self._repository(name)
        published = self._published(name, version)
        if published is None:
            raise never_published(name, version, self.versions(name), self.url)
        if published.yanked == yanked:
            return False
        note = yank_manifest(yanked, reason)
        self._client.upload(repository, EMPTY)
        self._client.put_manifest(repository, yank_tag(published.version), note)
        return True

    def _newest(self, name: str) -> Release | None:
        """The newest release of a concept that is not yanked."""
        tags = frozenset(self._client.tags(self._repository(name)))
        versions = [version for version in map(tag_version, tags) if version is not None]
        for version in sorted(versions, key=ParsedVersion, reverse=True):
            listing = self._listing(name, version, tags)
            if listing is not None and not listing[0].yanked:
                return listing[0].release
        return None


def open_oci(url: str, *, name: str, root: Path, cache: Path) -> OciRegistry:
    """The registry in the namespace of an OCI registry at `url`."""
    return OciRegistry(url, credentials=credentials_for(name, url), cache=cache)


BACKEND = Backend(open_oci)


def _map_threads(work: Callable[[A], B], many: Iterable[A]) -> list[B]:
    """The results of work that mostly waits for a server, in order; the first error ends it."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        futures = [threads.submit(work, item) for item in many]
        try:
            return [future.result() for future in futures]
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
