"""What every registry does, wherever its bytes are stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.name import parsed_version
from perfusion_registry.registries.release import Release
from perfusion_registry.registries.release_parts import Growing


class AlreadyPublishedError(PerfError):
    """The name@version is in the registry with other bytes; a published version never changes."""


_RAISE = "a published version never changes; raise the version in the recipe and publish that"


class RegistryError(PerfError):
    """A registry could not be reached, or its answer cannot be trusted."""


class NoRegistryError(RegistryError):
    """There is no registry at an address, where a first publication may make one."""


class TransferError(RegistryError):
    """A transfer broke off or brought something wrong; the next one may succeed."""


@dataclass(frozen=True, eq=False)
class Listing:
    """A release and whether it is yanked; `reason` is the publisher's, "" where there is none."""

    release: Release
    yanked: bool = False
    reason: str = ""

    @property
    def version(self) -> str:
        """The version of the release."""
        return self.release.version

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Listing):
            return NotImplemented
        return (self.release, self.yanked, self.reason) == (other.release, other.yanked, other.reason)

    def __hash__(self) -> int:
        return hash((self.release, self.yanked, self.reason))


@dataclass(frozen=True)
class CatalogueEntry:
    """One line of a search: a concept and its newest version that is not yanked."""

    name: str
    version: str
    kind: Literal["concept", "pack"]
    supercategory: str | None
    description: str | None
    licence: str | None = None
    consent: str | None = None
    preview: bool = False

    @classmethod
    def of(cls, release: Release) -> CatalogueEntry:
        """The line of a release."""
        return cls(
            release.name,
            release.version,
            release.kind,
            release.supercategory,
            release.description,
            release.licence,
            release.consent,
            release.preview is not None,
        )


class Registry(Protocol):
    """A place where concepts are published and found.

    Every method raises RegistryError (what, where, next step) for trouble with the place, and nothing that it
    returns is trusted unchecked: names and versions match what was asked, blobs are hashed by the caller
    (`registries.download`), an index that lost or changed a release since it was last seen is refused.
    """

    @property
    def url(self) -> str:
        """The place as the manifest and the lockfile name it, without credentials."""

    def versions(self, name: str) -> Sequence[Listing]:
        """All releases of a concept, oldest version first; empty where the registry does not know it."""

    def blob(self, release: Release) -> Iterator[bytes]:
        """The bytes of a release's blob in pieces, not yet hashed."""

    def publish(self, release: Release, blob: bytes, preview: bytes | None = None) -> bool:
        """Publish: the blobs first, the index last. False where the very same release is there already.

        preview: the bytes of the release's preview, where it has one; `blob(preview_of(release))` reads them.
        Raises AlreadyPublishedError when the version is there with other bytes; of two publishers of one
        version exactly one wins, and the other gets this error.
        """

    def yank(self, name: str, version: str, *, reason: str = "") -> bool:
        """Hide a version from resolution, never from a lock; False where it is yanked already."""

    def unyank(self, name: str, version: str) -> bool:
        """Show a version again; False where it is not yanked."""

    def catalogue(self) -> tuple[CatalogueEntry, ...]:
        """Every concept of the registry, by name."""


class Opener(Protocol):
    """Makes the registry at an address, without touching the network yet."""

    def __call__(self, url: str, *, name: str, root: Path, cache: Path) -> Registry:
        """The registry at `url`, which has no credentials and no line break in it.

        name: what the manifest calls it, for its credentials. root: what a relative folder is relative to.
        cache: the folder where the registry may remember what it saw. Raises RegistryError when `url` is not
        an address of this kind.
        """


@dataclass(frozen=True)
class Backend:
    """What serves the addresses of one scheme. local: needs no network, so offline work opens it as well."""

    open: Opener
    local: bool = False


def published(registry: Registry, name: str, version: str) -> Listing:
    """The listing of a version, however it is spelled (1.0 is 1.0.0).

    Raises RegistryError where there is none.
    """
    listings = registry.versions(name)
    listing = _of_version(listings, version)
    if listing is None:
        raise never_published(name, version, listings, registry.url)
    return listing


def find_published(registry: Registry, name: str, version: str) -> Listing | None:
    """The listing of a version, however it is spelled; None where there is none, or no registry yet."""
    try:
        return _of_version(registry.versions(name), version)
    except NoRegistryError:
        return None


def _of_version(listings: Sequence[Listing], version: str) -> Listing | None:
    requested = parsed_version(version)
    return next((one for one in listings if parsed_version(one.version) == requested), None)


def never_published(name: str, version: str, listings: Sequence[Listing], where: str) -> RegistryError:
    """That a registry has no such version, and the newest of those it has."""
    have = ", ".join(listing.version for listing in listings[-10:]) or "none"
    return RegistryError(f"`{name}` {version} was never published here; there are: {have}", where=where)


def ensure_same_bytes(published: Release, release: Release, where: str) -> None:
    """Raise AlreadyPublishedError unless the published release has the artifact of the other."""
    if published.sha256 != release.sha256:
        raise AlreadyPublishedError(
            f"`{published.name}` {published.version} is published already with other bytes: "
            f"{published.sha256} there, {release.sha256} here",
            where=where,
            hint=_RAISE,
        )


def _says(there: object, here: object) -> bool:
    """Whether what is published says the same, or beside it what only a newer perf knows, at any depth."""
    if isinstance(there, Growing) and isinstance(here, Growing):
        known = all(_says(getattr(there, key), getattr(here, key)) for key in type(here).model_fields)
        return known and there.foreign.items() >= here.foreign.items()
    if isinstance(there, tuple) and isinstance(here, tuple):
        return len(there) == len(here) and all(map(_says, there, here))
    return there == here


def ensure_same(published: Release, release: Release, where: str) -> None:
    """Raise AlreadyPublishedError unless the published release is the one that is being published.

    What a newer perf said of the published one, in keys that this one does not know, makes no other release.
    """
    ensure_same_bytes(published, release, where)
    differing = sorted(
        field
        for field in Release.model_fields
        if not _says(getattr(published, field), getattr(release, field))
        and not (field == "signature" and release.signature is None)
    )
    differing += sorted(key for key, value in release.foreign.items() if published.foreign.get(key) != value)
    if differing:
        raise AlreadyPublishedError(
            f"`{published.name}` {published.version} is published already with the same bytes "
            f"({published.sha256}) and another {', '.join(differing)}",
            where=where,
            hint=_RAISE,
        )
