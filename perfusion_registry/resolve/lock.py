"""The lockfile of a plan: what is, kept as it was wherever nothing changed."""

from __future__ import annotations

from collections.abc import Collection

from perfusion_registry.artifact import Store
from perfusion_registry.recipe import (
    LockedBase,
    LockedConcept,
    LockedFile,
    Lockfile,
)
from perfusion_registry.recipe.document import read_text
from perfusion_registry.recipe.lockfile import FORMAT_REVISION
from perfusion_registry.recipe.lockfile_text import dump_lockfile
from perfusion_registry.resolve.plan import BuildTask, Plan
from perfusion_registry.resolve.project import Project


def lock(project: Project, plan: Plan, store: Store, *, replaced: Collection[str] = ()) -> Lockfile:
    """The lockfile that the plan asks for.

    A concept whose recipe did not change keeps the artifact that it was locked to, except those named in
    `replaced`; any other is locked to its artifact in the store, if it is built. Concepts of the manifest
    outside the plan keep their blocks; concepts that left the manifest lose theirs. Where nothing changes,
    the lockfile comes back as it was, a newer revision included.
    """
    before = project.lockfile or Lockfile()
    planned = {task.name for task in plan.tasks}
    kept = [
        concept
        for concept in before.concepts
        if concept.name in project.manifest.concepts and concept.name not in planned
    ]
    concepts = [
        *kept,
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
            files=tuple(LockedFile(path=f.path, sha256=f.sha256, size=f.size) for f in base.files),
        ),
        covariance=plan.covariance.locked,
        concepts=tuple(sorted(concepts, key=lambda concept: concept.name)),
    )
    return after if differences(project.lockfile, after) or project.lockfile is None else project.lockfile


def changes_of(project: Project, after: Lockfile) -> list[str]:
    """`differences` between the project's lockfile and `after`, and whether its text is as perf writes it."""
    changes = differences(project.lockfile, after)
    if changes or after.revision > FORMAT_REVISION:
        return changes
    told = read_text(project.lockfile_path, "lockfile") == dump_lockfile(after)
    return [] if told else ["its text is not as perf writes it"]


def differences(before: Lockfile | None, after: Lockfile) -> list[str]:
    """What changes from one lockfile to another, a sentence each; empty when they lock the same."""
    if before is None:
        before = Lockfile()
    told = []
    if before.base != after.base:
        told.append("the base changed" if before.base else "the base is not locked")
    if before.covariance != after.covariance:
        told.append("the covariance changed" if before.covariance else "the covariance is not locked")
    for concept in after.concepts:
        old = before.concept(concept.name)
        if old is None:
            told.append(f"`{concept.name}` is not locked yet")
        elif old != concept:
            fields = [
                field
                for field in LockedConcept.model_fields
                if getattr(old, field) != getattr(concept, field)
            ]
            told.append(f"`{concept.name}` changed: {', '.join(fields)}")
    names = {concept.name for concept in after.concepts}
    told += [f"`{old.name}` left the manifest" for old in before.concepts if old.name not in names]
    return told


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
        sha256=sha256,
        size=size,
        bias=task.render.bias,
        temperature=task.render.temperature,
        key_lock=task.render.key_lock,
    )
