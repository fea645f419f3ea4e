"""A conflict in sentences: who asks for what, which versions there are, and what stands against each."""

from __future__ import annotations

from collections.abc import Sequence

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.name import parsed_version
from perfusion_registry.resolve.candidates import CandidateFinder
from perfusion_registry.resolve.requirement import Requirement, asks_for_prereleases
from perfusion_registry.suggestions import did_you_mean

_LONGEST_LIST = 8


def explain(causes: Sequence[Requirement], finder: CandidateFinder) -> PerfError:
    """The error for requirements that no choice of versions can meet."""
    by_name: dict[str, list[Requirement]] = {}
    for requirement in causes:
        known = by_name.setdefault(requirement.name, [])
        if requirement not in known:
            known.append(requirement)
    lines, hints = [], []
    for name, requirements in by_name.items():
        line, hint = _told(name, requirements, finder)
        lines.append(line)
        hints.append(hint)
    return PerfError("\n".join(lines), where=causes[0].origin, hint=hints[0])


def _told(name: str, requirements: list[Requirement], finder: CandidateFinder) -> tuple[str, str]:
    places = list(dict.fromkeys(requirement.place for requirement in requirements))
    asked = "".join(
        f"\n  {requirement}{_from(requirement, finder, len(places) > 1)}" for requirement in requirements
    )
    if len(places) > 1:
        return (
            f"`{name}` would be two concepts of one name:{asked}",
            f"a name comes from one registry: bind `{name}` to the one that all need, or drop one of them",
        )
    if places[0] is None:
        local = finder.local[name]
        return (
            f"the recipe of `{name}` does not fit:{asked}\n  {local.where} is {local.version}",
            f"change the version in {local.where}, or the constraint",
        )
    listings = finder.sources.listings(places[0], name)
    called = finder.sources.called(places[0])
    if not listings:
        return f"the registry `{called}` has no concept `{name}`:{asked}", _similar_name(
            name, places[0], finder
        )
    early = not asks_for_prereleases(requirements)
    reasons: dict[str, list[str]] = {}
    wanted_early = None
    only_yanked: list[bool] = []  # of each version that is wanted and refused, whether a yank is all
    for listing in listings:
        version = listing.version
        against = next((requirement for requirement in requirements if not requirement.admits(version)), None)
        refusal = finder.refusal(listing)
        if against is not None:
            reason = f"not {against.constraint}" + (
                f", which {against.origin} wants" if len(requirements) > 1 else ""
            )
        elif refusal is not None:
            reason = refusal
            only_yanked.append(listing.yanked and finder.platform.refusal(listing.release) is None)
        elif early and parsed_version(version).is_prerelease:
            reason, wanted_early = "a pre-release, which nobody asks for", version
        else:
            reason = "what it requires cannot be had"
        reasons.setdefault(reason, []).append(version)
    lines = "".join(f"\n  {_listed(versions)}: {reason}" for reason, versions in reasons.items())
    if wanted_early is not None:
        hint = f"ask for the pre-release: `>={wanted_early}`"
    elif only_yanked and all(only_yanked):
        hint = (
            "a yanked version is only for lockfiles that have it: take another, or ask its publisher why "
            "(`perf info` shows what there is; `perf unyank` shows it again)"
        )
    elif only_yanked:
        hint = "publish a version that composes with this base, choose another base, or widen the constraint"
    else:
        hint = "change one of the constraints"
    return f"no version of `{name}` in the registry `{called}` fits:{asked}{lines}", hint


def _from(requirement: Requirement, finder: CandidateFinder, several: bool) -> str:
    if not several:
        return ""
    if requirement.place is None:
        return " from a recipe here"
    return f" from `{finder.sources.called(requirement.place)}`"


def _listed(versions: list[str]) -> str:
    shown = versions if len(versions) <= _LONGEST_LIST else [*versions[:3], "...", *versions[-3:]]
    return ", ".join(shown)


def _similar_name(name: str, place: str, finder: CandidateFinder) -> str:
    try:
        known = [entry.name for entry in finder.sources.registry(place).catalogue()]
    except PerfError:  # the catalogue only serves to guess
        known = []
    return did_you_mean(name, known, f"check the name with `perf search {name}`")
