"""Resolution: one version of every concept that is demanded, such that all demands hold.

Nearly every project is without conflict, and then the best candidate of every name, taken once, is the
answer: demands only ever remove candidates, so a best candidate that all demands let in stays the best. Where
that fails, `resolvelib` searches; names that cannot reach each other are searched apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from perfusion_registry.errors import PerfError
from perfusion_registry.resolve.candidates import Candidate, Shelf
from perfusion_registry.resolve.conflict import explain
from perfusion_registry.resolve.demand import Demand

_ROUNDS = 20_000


def resolve(demands: Sequence[Demand], shelf: Shelf) -> dict[str, Candidate]:
    """The chosen version of every name that the demands reach, by name.

    Raises PerfError with an explanation in sentences where no choice satisfies all demands.
    """
    chosen = _straight(demands, shelf)
    if chosen is None:
        chosen = {}
        for group in _apart(demands, shelf):
            chosen |= _straight(group, shelf) or _search(group, shelf)
    return dict(sorted(chosen.items()))


def _straight(demands: Sequence[Demand], shelf: Shelf) -> dict[str, Candidate] | None:
    """The best candidate of every name, or None where a demand turns up that one of them does not meet."""
    chosen: dict[str, Candidate] = {}
    known: dict[str, list[Demand]] = defaultdict(list)
    wave: list[Demand] = list(demands)
    while wave:
        shelf.sources.prepare((demand.place, demand.name) for demand in wave if demand.place is not None)
        names = dict.fromkeys(demand.name for demand in wave)
        for demand in wave:
            known[demand.name].append(demand)
            pin = chosen.get(demand.name)
            if pin is not None and not _meets(pin, demand):
                return None
        wave = []
        for name in names:
            if name in chosen:
                continue
            pin = next(shelf.candidates(name, known[name]), None)
            if pin is None:
                return None
            chosen[name] = pin
            wave += shelf.required(pin)
    return chosen


def _meets(candidate: Candidate, demand: Demand) -> bool:
    return not candidate.nothing and candidate.place == demand.place and demand.admits(candidate.version)


def _apart(demands: Sequence[Demand], shelf: Shelf) -> list[list[Demand]]:
    """The demands in groups that share no name, whichever versions are chosen."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    seen: set[tuple[str, str | None]] = set()
    todo = list(demands)
    while todo:
        demand = todo.pop()
        root(demand.name)
        if (demand.name, demand.place) in seen:
            continue
        seen.add((demand.name, demand.place))
        for candidate in _every(demand, shelf):
            for need in shelf.required(candidate):
                parent[root(need.name)] = root(demand.name)
                todo.append(need)
    groups: dict[str, list[Demand]] = defaultdict(list)
    for demand in demands:
        groups[root(demand.name)].append(demand)
    return list(groups.values())


def _every(demand: Demand, shelf: Shelf) -> Iterator[Candidate]:
    if demand.place is None:
        local = shelf.local[demand.name]
        yield Candidate(demand.name, local.version, None, local=local)
        return
    for listing in shelf.sources.listings(demand.place, demand.name):
        if listing.release.requires:
            yield Candidate(demand.name, listing.version, demand.place, listing)


def _search(demands: Sequence[Demand], shelf: Shelf) -> dict[str, Candidate]:
    import resolvelib
    from resolvelib.resolvers import Resolution

    resolution = Resolution(_provider(shelf), resolvelib.BaseReporter())
    try:
        # Not `Resolver.resolve`: what it does with the pins recurses without end where names need each other.
        return _reached(demands, dict(resolution.resolve(demands, _ROUNDS).mapping), shelf)
    except resolvelib.ResolutionImpossible as impossible:
        raise explain([cause.requirement for cause in impossible.causes], shelf) from impossible
    except resolvelib.ResolutionTooDeep as deep:
        names = ", ".join(f"`{name}`" for name in islice(sorted({d.name for d in demands}), 5))
        raise PerfError(
            f"no choice of versions was found in {_ROUNDS:,} steps ({names} ...)",
            hint="narrow the constraints in perfusion.toml",
        ) from deep


def _reached(demands: Sequence[Demand], pins: Mapping[str, Candidate], shelf: Shelf) -> dict[str, Candidate]:
    """The pins that the demands reach; a search that went back may leave others."""
    reached: dict[str, Candidate] = {}
    todo = list(demands)
    while todo:
        name = todo.pop().name
        if name not in reached:
            reached[name] = pins[name]
            todo += shelf.required(pins[name])
    return reached


def _provider(shelf: Shelf) -> Any:
    """What resolvelib asks; made here, so that a project without conflict does not import it."""
    from resolvelib import AbstractProvider

    class Provider(AbstractProvider[Demand, Candidate, str]):
        def identify(self, requirement_or_candidate: Demand | Candidate) -> str:
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
            requirements: Mapping[str, Iterator[Demand]],
            incompatibilities: Mapping[str, Iterator[Candidate]],
        ) -> list[Candidate]:
            demands = list(requirements[identifier])
            if not demands:  # the search went back behind all who asked for it
                return [Candidate(identifier, "", None)]
            ruled_out = {candidate.version for candidate in incompatibilities[identifier]}
            found = shelf.candidates(identifier, demands)
            return [candidate for candidate in found if candidate.version not in ruled_out]

        def is_satisfied_by(self, requirement: Demand, candidate: Candidate) -> bool:
            return _meets(candidate, requirement)

        def get_dependencies(self, candidate: Candidate) -> list[Demand]:
            return shelf.required(candidate)

    return Provider()
