"""Healing a lockfile with merge-conflict markers: the two sides are merged concept by concept."""

from __future__ import annotations

import re

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.lockfile import Lockfile

_MARKER = re.compile(r"^(<{7}|\|{7}|={7}|>{7})(?: .*)?$")


def has_conflicts(text: str) -> bool:
    """Whether the text has the markers that `git merge` leaves."""
    return any(_MARKER.match(line) for line in text.split("\n"))


def sides(text: str, where: str) -> tuple[str, str]:
    """The two files that a conflicted text was made of (ours, theirs); a common base part is left out."""
    ours: list[str] = []
    theirs: list[str] = []
    part = "both"
    following = {
        ("both", "<"): "ours",
        ("ours", "|"): "base",
        ("ours", "="): "theirs",
        ("base", "="): "theirs",
    }
    following["theirs", ">"] = "both"
    for number, line in enumerate(text.split("\n"), start=1):
        if _MARKER.match(line):
            if (part, line[0]) not in following:
                raise _unhealable("its merge-conflict markers do not match up", f"{where}:{number}")
            part = following[part, line[0]]
            continue
        if part in ("both", "ours"):
            ours.append(line)
        if part in ("both", "theirs"):
            theirs.append(line)
    if part != "both":
        raise _unhealable("its merge-conflict markers do not match up", where)
    return "\n".join(ours), "\n".join(theirs)


def merge_sides(ours: Lockfile, theirs: Lockfile, where: str, *, drop_conflicts: bool = False) -> Lockfile:
    """One lockfile from two: the union of their concepts.

    Where both lock the same concept, the base or the covariance to different bytes, raises PerfError; or
    leaves it out, if `drop_conflicts`.
    """
    concepts = {concept.name: concept for concept in ours.concepts}
    conflicts = {part for part in ("base", "covariance") if getattr(ours, part) != getattr(theirs, part)}
    for concept in theirs.concepts:
        if concepts.setdefault(concept.name, concept) != concept:
            conflicts.add(concept.name)
    if conflicts and not drop_conflicts:
        named = ", ".join(f"`{conflict}`" for conflict in sorted(conflicts))
        raise _unhealable(f"the two sides of a merge lock {named} differently", where)
    return Lockfile(
        version=max(ours.version, theirs.version),
        revision=max(ours.revision, theirs.revision),
        base=None if "base" in conflicts else ours.base,
        covariance=None if "covariance" in conflicts else ours.covariance,
        concepts=tuple(concepts[name] for name in sorted(concepts.keys() - conflicts)),
    )


def _unhealable(why: str, where: str) -> PerfError:
    return PerfError(
        f"the lockfile has merge conflicts that cannot be healed: {why}",
        where=where,
        hint="choose in perfusion.toml and the recipes, then run `perf lock` to write it anew",
    )
