"""The platform of a project: what a release must have been built for to compose with its base."""

from __future__ import annotations

from dataclasses import dataclass

from perfusion_registry.base.embedded import another_edition
from perfusion_registry.base.reference import EMBEDDED
from perfusion_registry.errors import one_line
from perfusion_registry.methods.table import method_hindrance
from perfusion_registry.registries.release import Release


@dataclass(frozen=True)
class Platform:
    """A base's name, architecture and family, and the digest of the covariance's matrix; None where any will
    do.

    A release without a covariance, of a method that needs none, composes whatever the project's is.
    """

    base: str
    family: str
    covariance: str | None
    architecture: str | None = None

    def refusal(self, release: Release) -> str | None:
        """Why a release cannot compose with the project's base, in words that follow its version; or None."""
        hindrance = release.hindrance
        if hindrance is None and release.kind == "concept":
            hindrance = method_hindrance(release.method, release.requires_perf)
        if hindrance is not None:
            return f"not for this perf: {one_line(hindrance)}"
        if release.kind == "pack":
            return None
        if self.architecture is not None and release.architecture not in (None, self.architecture):
            return (
                f"built for bases of the architecture {one_line(release.architecture)}; "
                f"{self.base} is of {self.architecture}"
            )
        if release.family != self.family:
            storybook = release.base == self.base == EMBEDDED
            edition = another_edition(release.family or "", known_only=True) if storybook else None
            if edition is not None:
                return f"learned on {edition.wanted}; {edition.here}"
            built = f"{one_line(release.base)}, a base" if release.base else "a base"
            return (
                f"built for {built} of the family {_short(release.family)}; "
                f"{self.base} is of the family {_short(self.family)}"
            )
        if None not in (self.covariance, release.covariance) and release.covariance != self.covariance:
            return (
                f"built with the covariance {_short(release.covariance)}; "
                f"this project's is {_short(self.covariance)}"
            )
        return None


def _short(digest: str | None) -> str:
    return one_line(digest or "unknown")[:12]
