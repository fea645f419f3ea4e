"""Carrying out a plan: train what has to be trained, store it, and lock it, concept by concept."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from perfusion_registry.artifact import Artifact, ConceptCard, load_artifact, save_artifact
from perfusion_registry.cli.planning import Survey
from perfusion_registry.errors import CheckFailedError, PerfError
from perfusion_registry.file_digests import sha256_of
from perfusion_registry.recipe import write_lockfile
from perfusion_registry.reporter import Reporter
from perfusion_registry.resolve import BuildTask, Project, lock

if TYPE_CHECKING:
    from perfusion_registry.base import Base
    from perfusion_registry.build import Covariance


@dataclass(frozen=True)
class Built:
    """What became of one task. trained: False where the tensors were in the store already."""

    task: BuildTask
    card: ConceptCard
    sha256: str
    size: int
    seconds: float
    trained: bool


@dataclass(frozen=True)
class Computing:
    """Where to compute: names as `load_base` takes them."""

    device: str = "auto"
    dtype: str = "auto"


def construct(
    found: Survey, computing: Computing, *, locked: bool, reporter: Reporter, jobs: int = 1
) -> list[Built]:
    """Build every task that needs it; the lockfile follows each one, so that a killed run loses one at most.

    locked: raise CheckFailedError when the bytes of an unchanged recipe differ from the lockfile's. jobs: how
    many are trained at once, each in a process of its own. The base is only loaded when something has to be
    trained.
    """
    with closing(_built(found, computing, jobs, reporter)) as each:
        done = []
        for built in each:
            _settle(found, built, locked=locked, reporter=reporter)
            done.append(built)
    return done


def _built(found: Survey, computing: Computing, jobs: int, reporter: Reporter) -> Generator[Built]:
    """Build what is needed, here or in other processes; what needs no training is done here."""
    needed = found.plan.needed
    trained = [task for task in needed if _known(found, task) is None]
    here = [task for task in needed if task not in trained] if jobs > 1 and len(trained) > 1 else needed
    machine = Machine(found, computing, reporter)
    for task in here:
        with found.store.building(task.training, task.name, reporter):
            yield carry_out(found, task, machine, reporter)
    if len(here) < len(needed):
        from perfusion_registry.cli.crew import build_at_once

        yield from build_at_once(found, trained, computing, jobs, reporter)


def _known(found: Survey, task: BuildTask) -> str | None:
    """The artifact with the task's tensors, if the store has it and they are not to be trained anyway."""
    return None if task.reason == "forced" else found.store.lookup(task.training)


class Machine:
    """The loaded base and covariance, loaded once and only if they are needed."""

    def __init__(self, found: Survey, computing: Computing, reporter: Reporter) -> None:
        self._found = found
        self._computing = computing
        self._reporter = reporter
        self._loaded: tuple[Base, Covariance] | None = None

    def load(self) -> tuple[Base, Covariance]:
        """The base and the covariance."""
        if self._loaded is None:
            with self._reporter.stage(f"Loading {self._found.base.repo}"):
                from perfusion_registry.base import load_base
                from perfusion_registry.build import load_covariance

                base = load_base(self._found.base, device=self._computing.device, dtype=self._computing.dtype)
                self._loaded = base, load_covariance(self._found.plan.covariance.path)
        return self._loaded


def carry_out(found: Survey, task: BuildTask, machine: Machine, reporter: Reporter) -> Built:
    """Build one task into the store of `found`, or take from there what is built already."""
    begun = time.monotonic()
    store = found.store
    # Another process may have finished the work while this one waited for the lock.
    known = _known(found, task)
    if known is not None:
        artifact = load_artifact(store.get(known))
    else:
        artifact = _train(found, task, machine, reporter)
    artifact = Artifact(_card(found, task, artifact), artifact.tensors)
    data = save_artifact(artifact)
    sha256 = store.put(data)
    store.record(task.digest, sha256)
    store.record(task.training, sha256)
    store.discard_workspace(task.training)
    return Built(task, artifact.card, sha256, len(data), time.monotonic() - begun, known is None)


def _train(found: Survey, task: BuildTask, machine: Machine, reporter: Reporter) -> Artifact:
    from perfusion_registry.build import ConceptSources, build_concept

    base, covariance = machine.load()
    concept = task.recipe.concept
    if task.reason == "forced":
        found.store.discard_workspace(task.training)
    sources = ConceptSources(
        name=concept.name,
        version=concept.version,
        supercategory=concept.supercategory,
        images=tuple(image.path for image in task.images),
        masks=tuple(image.mask for image in task.images),
    )
    artifact: Artifact = build_concept(
        base,
        covariance,
        sources,
        task.train,
        task.render,
        digest=task.digest,
        workspace=found.store.workspace(task.training),
        reporter=reporter,
    )
    for image in task.images:
        if sha256_of(image.path) != image.sha256:
            raise PerfError(
                "the image changed while it was learned, so the result is not kept",
                where=str(image.path),
                hint=f"run `perf build {task.name}` again",
            )
    return artifact


def _card(found: Survey, task: BuildTask, artifact: Artifact) -> ConceptCard:
    """The card of the task's recipe, with what training found out."""
    concept = task.recipe.concept
    return artifact.card.model_copy(
        update={
            "name": concept.name,
            "version": concept.version,
            "recipe_digest": task.digest,
            "render": task.render,
            "licence": concept.licence,
            "base_licence": found.base.licence,
            "authors": concept.authors,
            "consent": concept.consent,
            "description": concept.description,
        }
    )


def _settle(found: Survey, built: Built, *, locked: bool, reporter: Reporter) -> None:
    """Write the built concept into the lockfile as it is now on disk."""
    project = Project.read(found.project.root)
    before = project.lockfile.concept(built.task.name) if project.lockfile else None
    was = before.sha256 if before and before.recipe_digest == built.task.digest else None
    if was is not None and was != built.sha256:
        what = (
            f"the bytes of `{built.task.name}` are not those locked ({was[:12]}, now {built.sha256[:12]}): "
            "the locked ones come from elsewhere"
        )
        if locked:
            raise CheckFailedError(
                what,
                where=str(project.lockfile_path),
                hint="fetch the locked artifact, or leave out --locked",
            )
        reporter.warn(f"{what}; the lockfile now has the new ones")
    task = replace(built.task, built=built.sha256, reason="")
    plan = replace(found.plan, tasks=(task,))
    write_lockfile(project.lockfile_path, lock(project, plan, found.store, replaced=[task.name]))
