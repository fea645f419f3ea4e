"""A requirement: that a concept be there, at which versions, and who says so."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from packaging.specifiers import SpecifierSet

from perfusion_registry.recipe.name import parsed_version


@dataclass(frozen=True)
class Requirement:
    """What one place asks of a concept.

    constraint: PEP 440; "" is any version. place: the address of the registry that it must come from, None
    for a recipe of the project. origin: who asks: a file and key path, or a release.
    """

    name: str
    constraint: str
    place: str | None
    origin: str

    def __str__(self) -> str:
        return f"{self.origin} asks for {self.name} {self.constraint}".rstrip()

    def admits(self, version: str) -> bool:
        """Whether the constraint lets this version in, a pre-release like any other."""
        return not self.constraint or parsed_constraint(self.constraint).contains(
            parsed_version(version), prereleases=True
        )


@lru_cache(maxsize=2**14)
def parsed_constraint(text: str) -> SpecifierSet:
    """A constraint that was checked before, parsed."""
    return SpecifierSet(text)


def asks_for_prereleases(requirements: list[Requirement]) -> bool:
    """Whether one of them names a pre-release, such as `>=2.0rc1`."""
    return any(
        bool(parsed_constraint(requirement.constraint).prereleases)
        for requirement in requirements
        if requirement.constraint
    )
