"""A registry in memory: the second real implementation of the protocol, for tests of resolution."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from perfusion_registry.recipe.name import canonical_name, parsed_version
from perfusion_registry.registries import (
    AlreadyPublishedError,
    CatalogueEntry,
    Listing,
    RegistryError,
    Release,
    RequiredConcept,
)

FAMILY, COVARIANCE = "f" * 64, "c" * 64


def release(name: str, version: str, needs: Mapping[str, str] | None = None, **changes: Any) -> Release:
    """A release of a concept; of a scene pack, where it needs something."""
    values: dict[str, Any] = {
        "name": name,
        "version": version,
        "sha256": hashlib.sha256(f"{name} {version}".encode()).hexdigest(),
        "size": 10,
    }
    if needs is not None:
        values["kind"] = "pack"
        values["requires"] = tuple(RequiredConcept(name=need, version=needs[need]) for need in sorted(needs))
    else:
        values |= {
            "family": FAMILY,
            "covariance": COVARIANCE,
            "base": "storybook",
            "supercategory": "teddy",
            "bias": 0.6,
            "temperature": 0.15,
            "key_lock": "local",
        }
    return Release(**{**values, **changes})


class MemoryRegistry:
    """Releases and blobs in dictionaries; `asked` counts the questions for versions."""

    def __init__(self, url: str, *releases: Release) -> None:
        self._url = url
        self._listings: dict[tuple[str, str], Listing] = {}
        self._blobs: dict[str, bytes] = {}
        self.asked: list[str] = []
        for one in releases:
            self._listings[one.name, one.version] = Listing(one)

    @property
    def url(self) -> str:
        return self._url

    def versions(self, name: str) -> tuple[Listing, ...]:
        self.asked.append(name)
        found = [one for (known, _), one in self._listings.items() if known == canonical_name(name)]
        return tuple(sorted(found, key=lambda one: parsed_version(one.release.version)))

    def blob(self, release: Release) -> Iterator[bytes]:
        if release.sha256 not in self._blobs:
            raise RegistryError("the bytes are not here", where=self._url)
        yield self._blobs[release.sha256]

    def publish(self, release: Release, blob: bytes, preview: bytes | None = None) -> bool:
        known = self._listings.get((release.name, release.version))
        if known is not None:
            if known.release != release:
                raise AlreadyPublishedError(f"{release.name} {release.version} is there with other bytes")
            return False
        self._listings[release.name, release.version] = Listing(release)
        self._blobs[release.sha256] = blob
        return True

    def yank(self, name: str, version: str, *, reason: str = "") -> bool:
        return self._mark(name, version, True, reason)

    def unyank(self, name: str, version: str) -> bool:
        return self._mark(name, version, False, "")

    def _mark(self, name: str, version: str, yanked: bool, reason: str) -> bool:
        before = self._listings[name, version]
        self._listings[name, version] = replace(before, yanked=yanked, reason=reason)
        return before.yanked != yanked

    def catalogue(self) -> tuple[CatalogueEntry, ...]:
        names = sorted({name for name, _ in self._listings})
        newest = [self.versions(name)[-1].release for name in names]
        return tuple(
            CatalogueEntry(one.name, one.version, one.kind, one.supercategory, one.description)
            for one in newest
        )
