"""Healing what merges left in conflict: lockfiles by concept, manifests where branches only added."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.document import parse_toml
from perfusion_registry.recipe.lockfile import Lockfile

_CONCEPT = "concept "  # before the name of a concept among the parts of a lockfile
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


def with_both(text: str, where: str) -> str:
    """A manifest in conflict with what both branches added, ours first.

    Raises PerfError where a branch did more than add: where one side of a conflict, which may be a removal,
    is empty, where there was something before, or where both say something of one key.
    """
    lines: list[str] = []
    part, filled = "both", {"ours": False, "theirs": False}
    for number, line in enumerate(text.split("\n"), start=1):
        at = f"{where}:{number}"
        if _MARKER.match(line):
            if line[0] == ">" and not all(filled.values()):
                raise _for_a_person("one side is empty, and may be a removal", at)
            part = {"<": "ours", "|": "base", "=": "theirs", ">": "both"}[line[0]]
            filled = {"ours": False, "theirs": False} if part == "ours" else filled
        elif part == "base":
            if line.strip():
                raise _for_a_person("both sides changed what was there before", at)
        else:
            filled |= {part: True} if part in filled and line.strip() else {}
            lines.append(line)
    made = "\n".join(lines)
    try:
        parse_toml(made, where, "manifest")
    except PerfError as error:
        raise _for_a_person(error.what.partition("\n")[0], where) from error
    return made


@dataclass(frozen=True)
class Merged:
    """A three-way merge. ours, theirs: the wholes, alike but for conflicts, which are named."""

    ours: Lockfile
    theirs: Lockfile
    conflicts: tuple[str, ...]


def merge_three(base: Lockfile, ours: Lockfile, theirs: Lockfile) -> Merged:
    """Merge what two branches made of one lockfile, block by block.

    A block that one side alone changed, added or removed is taken from that side; where both did, and not
    alike, it is in conflict.
    """
    was, mine, other = _parts(base), _parts(ours), _parts(theirs)
    left: dict[str, Any] = {}
    right: dict[str, Any] = {}
    conflicts = []
    for key in sorted({*was, *mine, *other}):
        before, our_version, their_version = was.get(key), mine.get(key), other.get(key)
        if our_version == their_version or before == their_version:
            left[key] = right[key] = our_version
        elif before == our_version:
            left[key] = right[key] = their_version
        else:
            left[key], right[key] = our_version, their_version
            conflicts.append(key.removeprefix(_CONCEPT))
    form = max(ours.version, theirs.version), max(ours.revision, theirs.revision)
    return Merged(_whole(left, *form), _whole(right, *form), tuple(conflicts))


def _parts(lock: Lockfile) -> dict[str, Any]:
    """A lockfile as the blocks that are merged, by name."""
    concepts = {f"{_CONCEPT}{concept.name}": concept for concept in lock.concepts}
    return {"base": lock.base, "covariance": lock.covariance, **concepts}


def _whole(parts: dict[str, Any], version: int, revision: int) -> Lockfile:
    return Lockfile(
        version=version,
        revision=revision,
        base=parts["base"],
        covariance=parts["covariance"],
        concepts=tuple(
            part for key, part in sorted(parts.items()) if key.startswith(_CONCEPT) and part is not None
        ),
    )


def _for_a_person(why: str, where: str) -> PerfError:
    return PerfError(
        f"the manifest has merge conflicts that are for you to settle: {why}",
        where=where,
        hint="choose between the sides, then run `perf lock`",
    )


def _unhealable(why: str, where: str) -> PerfError:
    return PerfError(
        f"the lockfile has merge conflicts that cannot be healed: {why}",
        where=where,
        hint="choose in perfusion.toml and the recipes, then run `perf lock` to write it anew",
    )
