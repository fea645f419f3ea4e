"""Where candidates come from: the recipes of a project and its registries, asked once each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from perfusion_registry.errors import PerfError
from perfusion_registry.registries.registry import Listing, Registry

_AT_ONCE = 8  # requests to remote registries


@dataclass(frozen=True)
class LocalConcept:
    """A recipe of the project: its version and, for a scene pack, what it requires.

    where: the recipe's path, from the project.
    """

    name: str
    version: str
    where: str
    kind: str = "concept"
    requires: Mapping[str, str] = field(default_factory=dict)


class Sources:
    """The registries by their addresses, opened when first asked; every answer is kept.

    named: the addresses by the names that the manifest gives them. open: opens the registry at an address.
    """

    def __init__(self, named: Mapping[str, str], open: Callable[[str], Registry]) -> None:
        self.named = dict(named)
        self._open = open
        self._opened: dict[str, Registry] = {}
        self._listed: dict[tuple[str, str], Sequence[Listing]] = {}

    def registry(self, place: str) -> Registry:
        """The registry at an address."""
        if place not in self._opened:
            self._opened[place] = self._open(place)
        return self._opened[place]

    def listings(self, place: str, name: str) -> Sequence[Listing]:
        """All releases of a concept in a registry, oldest version first."""
        key = (place, name)
        if key not in self._listed:
            self._listed[key] = self.registry(place).versions(name)
        return self._listed[key]

    def prepare(self, wanted: Iterable[tuple[str, str]]) -> None:
        """Ask remote registries for several (place, name) at once, which hides the way there."""
        missing = [key for key in dict.fromkeys(wanted) if key not in self._listed and "://" in key[0]]
        if len(missing) < 2:
            return
        for place, _ in missing:
            self.registry(place)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            answers = pool.map(lambda key: self._opened[key[0]].versions(key[1]), missing)
            self._listed.update(zip(missing, answers, strict=True))

    def called(self, place: str) -> str:
        """A registry as people know it: by its name in the manifest, else by its address."""
        return next((name for name, url in self.named.items() if url == place), place)

    def bind(self, name: str, registry: str | None, origin: str) -> str:
        """The one registry that a name comes from: the one given, the default, or the only one that has it.

        Raises PerfError where there is no registry, or several have the name: which one is meant is for a
        person to say, or whoever publishes that name elsewhere could slip in another concept.
        """
        if registry is not None:
            return self.named[registry]
        if "default" in self.named:
            return self.named["default"]
        places = sorted(set(self.named.values()))
        if not places:
            raise PerfError(
                f"`{name}` has no recipe, and the project has no registry to find it in",
                where=origin,
                hint='name one in perfusion.toml: [registries] studio = "https://..." (or a folder)',
            )
        if len(places) == 1:
            return places[0]
        having = [place for place in places if self.listings(place, name)]
        if len(having) == 1:
            return having[0]
        called = sorted(self.called(place) for place in (having or places))
        raise PerfError(
            f"the registries {_and(called)} both have `{name}`: which one is meant?"
            if len(having) == 2
            else f"the registries {_and(called)} all have `{name}`: which one is meant?"
            if having
            else f"none of the registries {_and(called)} has `{name}`",
            where=origin,
            hint=f'bind the name to one: `{name} = {{ version = "...", registry = "{called[0]}" }}`'
            if having
            else "check the name with `perf search`",
        )


def _and(names: list[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}" if len(quoted) > 1 else quoted[0]
