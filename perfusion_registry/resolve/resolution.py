"""Resolution: one version of every concept that is required, such that all requirements hold.

Nearly every project is without conflict, and then the best candidate of every name, taken once, is the
answer: requirements only ever remove candidates, so a best candidate that all of them let in stays the best.
Where that fails, `resolvelib` searches; names that cannot reach each other are searched apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from perfusion_registry.errors import PerfError
from perfusion_registry.resolve.candidates import Candidate, CandidateFinder
from perfusion_registry.resolve.conflict import explain
from perfusion_registry.resolve.requirement import Requirement

_ROUNDS = 20_000


def resolve(requirements: Sequence[Requirement], finder: CandidateFinder) -> dict[str, Candidate]:
    """The chosen version of every name that the requirements reach, by name.

    Raises PerfError with an explanation in sentences where no choice satisfies all requirements.
    """
    chosen = _straight(requirements, finder)
    if chosen is None:
        chosen = {}
        for group in _apart(requirements, finder):
            chosen |= _straight(group, finder) or _search(group, finder)
    return dict(sorted(chosen.items()))


def _straight(requirements: Sequence[Requirement], finder: CandidateFinder) -> dict[str, Candidate] | None:
    """The best candidate of every name, or None where one does not meet a requirement that turns up."""
    chosen: dict[str, Candidate] = {}
    known: dict[str, list[Requirement]] = defaultdict(list)
    wave: list[Requirement] = list(requirements)
    while wave:
        finder.sources.prepare(
            (requirement.place, requirement.name) for requirement in wave if requirement.place is not None
        )
        names = dict.fromkeys(requirement.name for requirement in wave)
        for requirement in wave:
            known[requirement.name].append(requirement)
            pin = chosen.get(requirement.name)
            if pin is not None and not _meets(pin, requirement):
                return None
        wave = []
        for name in names:
            if name in chosen:
                continue
            pin = next(finder.candidates(name, known[name]), None)
            if pin is None:
                return None
            chosen[name] = pin
            wave += finder.required(pin)
    return chosen


def _meets(candidate: Candidate, requirement: Requirement) -> bool:
    return (
        not candidate.nothing
        and candidate.place == requirement.place
        and requirement.admits(candidate.version)
    )


def _apart(requirements: Sequence[Requirement], finder: CandidateFinder) -> list[list[Requirement]]:
    """The requirements in groups that share no name, whichever versions are chosen."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    seen: set[tuple[str, str | None]] = set()
    todo = list(requirements)
    while todo:
        requirement = todo.pop()
        root(requirement.name)
        if (requirement.name, requirement.place) in seen:
            continue
        seen.add((requirement.name, requirement.place))
        for candidate in _every(requirement, finder):
            for need in finder.required(candidate):
                parent[root(need.name)] = root(requirement.name)
                todo.append(need)
    groups: dict[str, list[Requirement]] = defaultdict(list)
    for requirement in requirements:
        groups[root(requirement.name)].append(requirement)
    return list(groups.values())


def _every(requirement: Requirement, finder: CandidateFinder) -> Iterator[Candidate]:
    if requirement.place is None:
        local = finder.local[requirement.name]
        yield Candidate(requirement.name, local.version, None, local=local)
        return
    for listing in finder.sources.listings(requirement.place, requirement.name):
        if listing.release.requires:
            yield Candidate(requirement.name, listing.version, requirement.place, listing)


def _search(requirements: Sequence[Requirement], finder: CandidateFinder) -> dict[str, Candidate]:
    import resolvelib
    from resolvelib.resolvers import Resolution

    resolution = Resolution(_provider(finder), resolvelib.BaseReporter())
    try:
        # Not `Resolver.resolve`: what it does with the pins recurses without end where names need each other.
        return _reached(requirements, dict(resolution.resolve(requirements, _ROUNDS).mapping), finder)
    except resolvelib.ResolutionImpossible as impossible:
        raise explain([cause.requirement for cause in impossible.causes], finder) from impossible
    except resolvelib.ResolutionTooDeep as deep:
        names = ", ".join(f"`{name}`" for name in islice(sorted({d.name for d in requirements}), 5))
        raise PerfError(
            f"no choice of versions was found in {_ROUNDS:,} steps ({names} ...)",
            hint="narrow the constraints in perfusion.toml",
        ) from deep


def _reached(
    requirements: Sequence[Requirement], pins: Mapping[str, Candidate], finder: CandidateFinder
) -> dict[str, Candidate]:
    """The pins that the requirements reach; a search that went back may leave others."""
    reached: dict[str, Candidate] = {}
    todo = list(requirements)
    while todo:
        name = todo.pop().name
        if name not in reached:
            reached[name] = pins[name]
            todo += finder.required(pins[name])
    return reached


def _provider(finder: CandidateFinder) -> Any:
    """What resolvelib asks; made here, so that a project without conflict does not import it."""
    from resolvelib import AbstractProvider

    class Provider(AbstractProvider[Requirement, Candidate, str]):
        def identify(self, requirement_or_candidate: Requirement | Candidate) -> str:
            return requirement_or_candidate.name

        def get_preference(
            self,
            identifier: str,
            resolutions: Mapping[str, Candidate],
            candidates: Mapping[str, Iterator[Candidate]],
            information: Mapping[str, Iterator[Any]],
            backtrack_causes: Sequence[Any],
        ) -> tuple[bool, str]:
            troubled = any(cause.requirement.name == identifier for cause in backtrack_causes)
            return not troubled, identifier

        def find_matches(
            self,
            identifier: str,
            requirements: Mapping[str, Iterator[Requirement]],
            incompatibilities: Mapping[str, Iterator[Candidate]],
        ) -> list[Candidate]:
            own = list(requirements[identifier])
            if not own:  # the search went back behind all who asked for it
                return [Candidate(identifier, "", None)]
            ruled_out = {candidate.version for candidate in incompatibilities[identifier]}
            choices = finder.candidates(identifier, own)
            return [candidate for candidate in choices if candidate.version not in ruled_out]

        def is_satisfied_by(self, requirement: Requirement, candidate: Candidate) -> bool:
            return _meets(candidate, requirement)

        def get_dependencies(self, candidate: Candidate) -> list[Requirement]:
            return finder.required(candidate)

    return Provider()
