"""The lockfile of a plan: what is, kept as it was wherever nothing changed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

from perfusion_registry.artifact import Store, read_card
from perfusion_registry.artifact.card import ARCHITECTURE
from perfusion_registry.recipe import (
    LockedBase,
    LockedConcept,
    LockedFile,
    Lockfile,
    Pack,
    dump_pack,
)
from perfusion_registry.recipe.document import read_text
from perfusion_registry.recipe.lockfile import REGISTRY, REVISIONS
from perfusion_registry.recipe.lockfile_text import dump_lockfile
from perfusion_registry.resolve.base import base_change, other_edition, own_files
from perfusion_registry.resolve.candidates import Candidate
from perfusion_registry.resolve.planning import BuildTask, Plan, shown
from perfusion_registry.resolve.project import ProjectFolder
from perfusion_registry.resolve.root_requirements import reachable
from perfusion_registry.resolve.staleness import EDITED


def lock(
    project: ProjectFolder,
    plan: Plan,
    store: Store,
    *,
    replaced: Collection[str] = (),
    chosen: Mapping[str, Candidate] | None = None,
) -> Lockfile:
    """The lockfile that the plan asks for.

    A concept whose recipe did not change keeps the artifact that it was locked to, except those named in
    `replaced`; any other is locked to its artifact in the store, if it is built. chosen: what was resolved of
    registries; None keeps what is locked of them. Concepts with a recipe outside the plan keep their blocks;
    what nothing asks for any more loses its own. Where nothing changes, the lockfile comes back as it was, a
    newer revision included.
    """
    before = project.lockfile or Lockfile()
    planned = {task.name for task in plan.tasks}
    local = set(project.local())
    packs = [block for name in local - planned if (block := _pack(project, name)) is not None]
    done = planned | {pack.name for pack in packs}
    kept = [block for block in before.concepts if block.name in local - done and block.registry is None]
    if chosen is None:
        fetched = [
            block for block in before.concepts if block.name not in local and block.registry is not None
        ]
        needed = reachable(project.manifest.concepts, [*packs, *fetched])
        fetched = [block for block in fetched if block.name in needed]
    else:
        fetched = [
            _from_registry(candidate) for candidate in chosen.values() if candidate.listing is not None
        ]
    concepts = [
        *kept,
        *packs,
        *fetched,
        *(
            _locked(task, None if task.name in replaced else before.concept(task.name), store)
            for task in plan.tasks
        ),
    ]
    base = plan.base
    after = Lockfile(
        base=LockedBase(
            repo=base.repo,
            revision=base.revision,
            family=base.family,
            digest=base.digest,
            architecture=None if base.architecture == ARCHITECTURE else base.architecture,
            prediction=base.prediction_asked,
            options=base.options_asked,
            files=tuple(
                LockedFile(path=f.path, sha256=f.sha256, size=f.size, part=f.part)
                for f in sorted(base.files, key=lambda file: file.path)
            ),
        ),
        covariance=plan.covariance.locked if plan.covariance is not None else None,
        concepts=tuple(sorted(concepts, key=lambda concept: concept.name)),
    ).as_written()
    if before.version == 1 < after.version:  # which did not say all of what is kept
        known = before.concepts
        said = tuple(_whole(block, store) if block in known else block for block in after.concepts)
        after = after.model_copy(update={"concepts": said})
    return after if differences(project.lockfile, after) or project.lockfile is None else project.lockfile


def changes_of(project: ProjectFolder, after: Lockfile) -> list[str]:
    """`differences` between the project's lockfile and `after`, and whether its text is as perf writes it."""
    changes = differences(project.lockfile, after)
    if changes or after.revision > REVISIONS.get(after.version, 0):
        return changes
    unchanged = read_text(project.lockfile_path, "lockfile") == dump_lockfile(after)
    return [] if unchanged else ["its text is not as perf writes it"]


def differences(before: Lockfile | None, after: Lockfile) -> list[str]:
    """Why one lockfile is not the other, a sentence each; empty when they lock the same."""
    if before is None:
        before = Lockfile()
    reasons = []
    if before.base != after.base:
        reasons.append(_base_change(before.base, after.base) if before.base else "the base is not locked")
    if before.covariance != after.covariance:
        reasons.append("the covariance changed" if before.covariance else "the covariance is not locked")
    for concept in after.concepts:
        old = before.concept(concept.name)
        if old is None:
            reasons.append(f"`{concept.name}` is not locked yet")
        elif old.version != concept.version and concept.registry is not None:
            reasons.append(f"`{concept.name}` {old.version} becomes {concept.version}")
        elif old != concept:
            reasons.append(f"`{concept.name}` changed: {', '.join(_changed_fields(old, concept))}")
    names = {concept.name for concept in after.concepts}
    reasons += [f"`{old.name}` is needed no longer" for old in before.concepts if old.name not in names]
    return reasons


def _base_change(before: LockedBase, after: LockedBase | None) -> str:
    if after is None:
        return "the base changed"
    if before.repo != after.repo or own_files(before) != own_files(after):
        return base_change(before, after)
    if (before.prediction, before.options) != (after.prediction, after.options):
        return EDITED
    return (
        "what [base] in perfusion.toml names changed" if before.files != after.files else "the base changed"
    )


def changed_lines(before: Lockfile | None, after: Lockfile) -> list[str]:
    """What one lockfile has more, less and otherwise than another, as uv lists it: `+ teddy 1.1.0`.

    `+` is new, `-` is gone, `~` changed; empty when they lock the same.
    """
    before = before or Lockfile()
    lines = []
    if before.base != after.base and after.base is not None:
        lines.append(_base_line(before.base, after.base))
    if before.covariance != after.covariance and after.covariance is not None:
        sign = "~" if before.covariance else "+"
        lines.append(f"{sign} covariance {after.covariance.sha256[:12]}")
    for concept in after.concepts:
        old = before.concept(concept.name)
        if old is None:
            lines.append(f"+ {concept.name} {concept.version}{_aside(concept)}")
        elif old.version != concept.version:
            lines.append(f"~ {concept.name} {old.version} -> {concept.version}{_aside(concept)}")
        elif old != concept:
            fields = ", ".join(_changed_fields(old, concept)).replace("_", " ")
            lines.append(f"~ {concept.name} {concept.version} ({fields})")
    names = {concept.name for concept in after.concepts}
    lines += [f"- {old.name} {old.version}" for old in before.concepts if old.name not in names]
    return lines


def _base_line(before: LockedBase | None, after: LockedBase) -> str:
    now = f"{after.repo}@{after.revision[:12]}" if after.revision else after.repo
    if before is None:
        return f"+ base {now}"
    was = f"{before.repo}@{before.revision[:12]}" if before.revision else before.repo
    if was != now:
        return f"~ base {was} -> {now}"
    edition = other_edition(before, after)
    if edition is not None:
        return f"~ base {edition.wanted} -> {edition.installed.told}"
    edited = own_files(before) == own_files(after)
    return f"~ base {now} ({'[base] of perfusion.toml' if edited else 'its files'} changed)"


def _aside(concept: LockedConcept) -> str:
    if concept.kind == "pack":
        return " (scene pack)"
    return "" if concept.sha256 else " (not built yet)"


def _changed_fields(old: LockedConcept, new: LockedConcept) -> list[str]:
    was, now = (locked.model_dump(exclude={"render"}) | locked.render for locked in (old, new))
    return [field for field in was | now if was.get(field) != now.get(field)]


def _pack(project: ProjectFolder, name: str) -> LockedConcept | None:
    """The block of a scene pack of the project; None where the name is a concept's."""
    pack = project.declared(name)
    if not isinstance(pack, Pack):
        return None
    data = dump_pack(pack)
    return LockedConcept(
        name=name,
        version=pack.pack.version,
        kind="pack",
        source=shown(project.recipe_path(name), project.root),
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        requires=pack.pack.requires,
    )


def _from_registry(candidate: Candidate) -> LockedConcept:
    """The block of a release."""
    assert candidate.listing is not None
    release = candidate.listing.release
    return LockedConcept(
        name=release.name,
        version=release.version,
        kind=release.kind,
        source=f"{REGISTRY}{candidate.place}",
        sha256=release.sha256,
        size=release.size,
        requires={need.name: need.version for need in release.requires},
        method=release.method,
        render=release.render,
    )


def _render(
    task: BuildTask, sha256: str | None, before: LockedConcept | None, store: Store
) -> dict[str, Any]:
    """The options of its artifact: those of the recipe, and what the build chose where that leaves it open.

    The lockfile says it of an artifact that is not here.
    """
    render = task.render.model_dump(mode="json")
    left = task.left_to_build
    if left is None or sha256 is None:
        return render
    said: Mapping[str, Any] = before.render if before is not None and before.sha256 == sha256 else {}
    if store.has(sha256):  # whole, not only there
        said = read_card(store.path(sha256)).render.model_dump(mode="json")
    return render | {left: said.get(left, render[left])}


def _whole(block: LockedConcept, store: Store) -> LockedConcept:
    """A block of version 1 with the options that its version had no place for, where the artifact is here."""
    if block.kind == "pack" or block.sha256 is None or not store.has(block.sha256):
        return block
    render = read_card(store.path(block.sha256)).render.model_dump(mode="json")
    return block.model_copy(update={"render": render | block.render})


def _locked(task: BuildTask, before: LockedConcept | None, store: Store) -> LockedConcept:
    sha256, size = None, None
    if before is not None and before.recipe_digest == task.digest and before.sha256:
        sha256, size = before.sha256, before.size
    elif task.built is not None:
        sha256, size = task.built, store.path(task.built).stat().st_size
    return LockedConcept(
        name=task.name,
        version=task.recipe.concept.version,
        source=task.source,
        recipe_digest=task.digest,
        images=task.image_digest,
        options=task.option_digest,
        transferred=task.transferred,
        sha256=sha256,
        size=size,
        method=task.recipe.concept.method,
        render=_render(task, sha256, before, store),
    )
