"""Candidates: the versions of a concept that some requirements let in, best first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from perfusion_registry.errors import PerfError, one_line
from perfusion_registry.recipe import LockedConcept
from perfusion_registry.recipe.name import parsed_version
from perfusion_registry.registries.registry import Listing
from perfusion_registry.resolve.platform import Platform
from perfusion_registry.resolve.requirement import Requirement, asks_for_prereleases
from perfusion_registry.resolve.sources import LocalConcept, Sources


@dataclass(frozen=True, eq=False)
class Candidate:
    """One version of a concept, from a registry (place, listing) or from a recipe (local).

    With neither it is no version at all, for a name that a search has come to need no longer.
    """

    name: str
    version: str
    place: str | None
    listing: Listing | None = None
    local: LocalConcept | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def nothing(self) -> bool:
        """Whether it stands for no version."""
        return self.listing is None and self.local is None

    def required(self) -> tuple[tuple[str, str], ...]:
        """The names and constraints of what it requires."""
        if self.nothing:
            return ()
        if self.local is not None:
            return tuple(self.local.requires.items())
        assert self.listing is not None
        return tuple((need.name, need.version) for need in self.listing.release.requires)


class CandidateFinder:
    """Everything that a resolution may choose from.

    preferred: what the lockfile has, which is kept while the requirements let it. bound: the registries that
    names are locked from. lowest: prefer old versions.
    """

    def __init__(
        self,
        sources: Sources,
        local: Mapping[str, LocalConcept],
        platform: Platform,
        *,
        preferred: Mapping[str, LockedConcept] | None = None,
        bound: Mapping[str, str] | None = None,
        lowest: bool = False,
    ) -> None:
        self.sources = sources
        self.local = local
        self.platform = platform
        self.preferred = preferred or {}
        self.bound = bound or {}
        self.lowest = lowest

    def candidates(self, name: str, requirements: list[Requirement]) -> Iterator[Candidate]:
        """The versions that all requirements let in: the locked one, then the newest to the oldest.

        Pre-releases come where a requirement names one, or where nothing else is left. Raises PerfError where
        the lockfile's version is in its registry no longer.
        """
        place = requirements[0].place
        if any(requirement.place != place for requirement in requirements):
            return
        if place is None:
            local = self.local[name]
            if all(requirement.admits(local.version) for requirement in requirements):
                yield Candidate(name, local.version, None, local=local)
            return
        listings = self.sources.listings(place, name)
        kept = self._kept(name, place, listings, requirements)
        if kept is not None:
            yield Candidate(name, kept.version, place, kept)
        asked = asks_for_prereleases(requirements)
        early, complete = [], kept is not None
        for listing in listings if self.lowest else reversed(listings):
            version = listing.version
            if listing is kept or not all(requirement.admits(version) for requirement in requirements):
                continue
            if self.refusal(listing) is not None:
                continue
            candidate = Candidate(name, version, place, listing)
            if not asked and parsed_version(version).is_prerelease:
                early.append(candidate)
            else:
                complete = True
                yield candidate
        if not complete:
            yield from early

    def refusal(self, listing: Listing) -> str | None:
        """Why a release is no candidate for anybody, in words that follow its version; or None."""
        if listing.yanked:
            return "yanked" + (f" ({one_line(listing.reason)})" if listing.reason else "")
        return self.platform.refusal(listing.release)

    def required(self, candidate: Candidate) -> list[Requirement]:
        """What a candidate requirements: from its own registry, or from the project where a recipe has it."""
        if candidate.local is not None:
            return self.required_locally(candidate.local)
        return [
            Requirement(
                name, constraint, None if name in self.local else candidate.place, f"the pack {candidate}"
            )
            for name, constraint in candidate.required()
        ]

    def required_locally(self, pack: LocalConcept) -> list[Requirement]:
        """What a scene pack of the project requires; its names bind as those of the manifest do."""
        requirements = []
        for name, constraint in pack.requires.items():
            origin = f"{pack.where}, pack.requires.{name}"
            place = None if name in self.local else self.bind(name, origin)
            requirements.append(Requirement(name, constraint, place, origin))
        return requirements

    def bind(self, name: str, origin: str) -> str:
        """The registry of a name that says none: where it is locked from, if the project still knows it."""
        place = self.bound.get(name)
        return (
            place if place in self.sources.named.values() and place else self.sources.bind(name, None, origin)
        )

    def _kept(
        self, name: str, place: str, listings: Sequence[Listing], requirements: list[Requirement]
    ) -> Listing | None:
        """The lockfile's version, yanked or not, if it is from this registry and still wanted."""
        locked = self.preferred.get(name)
        if locked is None or not all(requirement.admits(locked.version) for requirement in requirements):
            return None
        wanted = parsed_version(locked.version)
        listing = next(
            (candidate for candidate in listings if parsed_version(candidate.version) == wanted), None
        )
        if listing is None:
            if locked.registry != place:
                return None
            raise PerfError(
                f"`{self.sources.called(place)}` has {name} {locked.version}, which is locked, no longer",
                where=place,
                hint="ask its keeper why: nothing published may vanish. "
                f"`perf lock --upgrade-package {name}` takes another version",
            )
        return listing if self.platform.refusal(listing.release) is None else None
