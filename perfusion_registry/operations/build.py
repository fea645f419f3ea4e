"""`build`: train the concepts whose inputs changed, store them, and lock them, concept by concept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_serializer
from pydantic_core.core_schema import SerializerFunctionWrapHandler

from perfusion_registry.artifact import Artifact, ConceptCard, Store, load_artifact, read_card, save_artifact
from perfusion_registry.artifact.card import (
    TransferSource,
    Verdict,
    as_before,
    before_verdicts,
    with_chosen,
)
from perfusion_registry.errors import CheckFailedError, PerfError
from perfusion_registry.file_digests import sha256_of
from perfusion_registry.operations.lock import stale
from perfusion_registry.operations.pictures import check_readable
from perfusion_registry.operations.plan import ProjectPlan, load_plan
from perfusion_registry.operations.result import InProcess, Result, left_out_if_none, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import Lockfile, write_lockfile
from perfusion_registry.recipe.mask_files import reads_mask_files
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Sha256, Version
from perfusion_registry.reporter import Reporter
from perfusion_registry.resolve import BuildTask, Plan, ProjectFolder, changes_of, lock
from perfusion_registry.resolve.choice import must_choose
from perfusion_registry.resolve.planning import OPTIONS_CHANGED
from perfusion_registry.workers import worker_pool

if TYPE_CHECKING:
    from perfusion_registry.base import Base, BaseDescription
    from perfusion_registry.build import Covariance


@dataclass(frozen=True)
class ComputeOptions:
    """Where to compute, and with which numbers: names as `load_base` takes them. threads: that this process
    was asked to have; None where nobody asked, and an interrupted training goes on with as many as it had.
    """

    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What to build. names: the concepts (default: all). force: even what is up to date.

    jobs: processes at once.

    locked: raise StaleLockfileError where the lockfile would change, and CheckFailedError where the bytes of
    an unchanged recipe are not the locked ones.
    """

    names: tuple[str, ...] = ()
    force: bool = False
    locked: bool = False
    jobs: int = 1
    dry_run: bool = False
    compute: ComputeOptions = field(default_factory=ComputeOptions)


class NeededConcept(FileModel):
    """A concept that a build would train, and why."""

    name: Name
    reason: str
    version: InProcess[Version]


class BuiltConcept(FileModel):
    """A concept that was built. trained: False where its tensors were there already, and where it was
    transferred; transferred: from what. verdict: what it is good for; None where it was trained before there
    were verdicts. sheet: the file of its pictures.
    """

    name: Name
    version: Version
    reason: str
    trained: bool
    seconds: float
    sha256: Sha256
    size: int
    steps_kept: int | None
    scores: dict[str, float]
    transferred: Annotated[TransferSource | None, Field(exclude_if=lambda source: source is None)] = None
    verdict: Verdict | None = left_out_if_none()
    sheet: str | None = left_out_if_none()
    card: InProcess[ConceptCard]


class BuildResult(Result):
    """`perf build`. out: the file that was written instead of the lockfile, under another supercategory.

    doubtful: of what was built or is up to date, the concepts that failed a test of their verdicts, with what
    these say. not_built_here: of what was asked for, scene packs and concepts of registries, each with its
    reason. locked: whether the lockfile has what was built.
    """

    schema_: Literal["perf.build/1"] = named("perf.build/1")
    needed: tuple[NeededConcept, ...]
    built: tuple[BuiltConcept, ...]
    up_to_date: tuple[Name, ...]
    seconds: float
    out: str | None = None
    doubtful: InProcess[dict[Name, str]] = Field(default_factory=dict)
    not_built_here: InProcess[dict[Name, str]] = Field(default_factory=dict)
    locked: InProcess[bool] = True

    @model_serializer(mode="wrap")
    def _printed(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the file where nothing was built."""
        values: dict[str, Any] = handler(self)
        if not self.built and self.out is None:
            del values["out"]
        return values


def build(workspace: Workspace, options: BuildOptions) -> BuildResult:
    """Train what has to be trained; a build that is interrupted resumes where it was."""
    begun = time.monotonic()
    planned = load_plan(workspace, options.names or None, force=options.force)
    after = lock(planned.project, planned.plan, planned.store)
    changes = changes_of(planned.project, after)
    if options.locked:
        reasons = must_choose(planned.project, planned.plan)
        reasons += [change for change in changes if change not in reasons]
        if reasons:
            raise stale(reasons, planned.project.lockfile_path)
    if options.dry_run or not planned.plan.needed:
        if changes and not options.dry_run:
            write_lockfile(planned.project.lockfile_path, after)
        elsewhere = _not_built_here(planned, options.names)
        return result_of(planned, begun, needed=needed_of(planned), not_built_here=elsewhere)
    built = build_plan(
        planned, options.compute, locked=options.locked, jobs=options.jobs, reporter=workspace.reporter
    )
    return result_of(planned, begun, built=built)


def _not_built_here(planned: ProjectPlan, names: tuple[str, ...]) -> dict[str, str]:
    """Of these names, or of all, those that nothing is trained for, and what to do with each instead."""
    project, tasks = planned.project, {task.name for task in planned.plan.tasks}
    reasons = {}
    for name in project.select(names):
        if name in tasks:
            continue
        if project.manifest.concepts[name].recipe is None:
            reasons[name] = "comes from a registry: `perf sync` fetches it"
        else:
            reasons[name] = (
                f"is a scene pack, of which nothing is trained: `perf render --scene {name}/SCENE`"
            )
    return reasons


def needed_of(planned: ProjectPlan) -> tuple[NeededConcept, ...]:
    """What a build of this plan would train, and why."""
    return tuple(
        NeededConcept(name=task.name, reason=task.reason, version=task.recipe_version)
        for task in planned.plan.needed
    )


def result_of(
    planned: ProjectPlan,
    begun: float,
    *,
    needed: tuple[NeededConcept, ...] = (),
    built: tuple[BuiltConcept, ...] = (),
    out: Path | None = None,
    not_built_here: dict[str, str] | None = None,
) -> BuildResult:
    """What a build of this plan did, or would do. begun: the clock when it was asked for."""
    return BuildResult(
        needed=needed,
        built=built,
        up_to_date=tuple(task.name for task in planned.plan.tasks if not task.reason),
        seconds=round(time.monotonic() - begun, 3),
        out=str(out) if out else None,
        doubtful=_doubtful(planned, built),
        not_built_here=not_built_here or {},
    )


def _doubtful(planned: ProjectPlan, built: tuple[BuiltConcept, ...]) -> dict[str, str]:
    """The sentences of the bad verdicts, by name."""
    cards = {row.name: row.card for row in built}
    for task in planned.plan.tasks:
        if task.built is not None:
            cards[task.name] = read_card(planned.store.path(task.built))
    verdicts = {name: card.verdict for name, card in cards.items()}
    return {name: verdict.sentence for name, verdict in verdicts.items() if verdict and verdict.failed}


def build_plan(
    planned: ProjectPlan, compute: ComputeOptions, *, locked: bool, reporter: Reporter, jobs: int = 1
) -> tuple[BuiltConcept, ...]:
    """Build every task that needs it; the lockfile follows each one, so that a killed run loses one at most.

    locked: raise CheckFailedError when the bytes of an unchanged recipe differ from the lockfile's. jobs: how
    many are trained at once, each in a process of its own. The base is only loaded when something has to be
    trained. What is built when this ends early stays in the store; the rest resumes where its checkpoint is.
    """
    if any(task.transferred is None for task in planned.plan.needed):
        from perfusion_registry.base import require_trainable

        require_trainable(planned.base)
    with closing(_run(planned, compute, jobs, reporter)) as each:
        done = []
        for task, built in each:
            _settle(planned, task, built, locked=locked, reporter=reporter)
            done.append(built)
    return tuple(done)


def _run(
    planned: ProjectPlan, compute: ComputeOptions, jobs: int, reporter: Reporter
) -> Generator[tuple[BuildTask, BuiltConcept]]:
    """Build what is needed, here or in other processes; what needs no training is done here."""
    needed = planned.plan.needed
    trained = [task for task in needed if task.transferred is None and _cached(planned.store, task) is None]
    pictures = [
        (image.path, image.mask if reads_mask_files(task.train.mask) else None)
        for task in trained
        for image in task.images
    ]
    check_readable(pictures, str(planned.project.manifest_path))  # before the base is loaded
    alone = jobs == 1 or len(trained) < 2
    here = needed if alone else [task for task in needed if task not in trained]
    begin = partial(ConceptBuilder, BuildInputs.of(planned), compute)
    preload = ["perfusion_registry.base.preloaded"]
    for tasks, processes in ((here, 1), ([] if alone else trained, min(jobs, len(trained)))):
        trainings = [_Training(task) for task in tasks]
        pool = worker_pool(begin, processes, reporter, preload=preload)
        with pool as run, closing(run(trainings)) as results:
            for done, built in results:
                yield done.task, built


@dataclass(frozen=True)
class _Training:
    """A task as a worker process takes it."""

    task: BuildTask

    @property
    def title(self) -> str:
        return self.task.name

    def run(self, worker: ConceptBuilder) -> BuiltConcept:
        return worker.build(self.task)


def _cached(store: Store, task: BuildTask) -> str | None:
    """The artifact with the task's tensors, if the store has it and they are not to be trained anyway."""
    return None if task.reason == "forced" else store.lookup(task.training)


@dataclass(frozen=True)
class BuildInputs:
    """What a builder needs of a planned project. It travels to worker processes by pickle, which a manifest
    cannot: the model of its scenes is made for the methods that are installed.

    root: the project's folder. lockfile: as it was before the build.
    """

    root: Path
    store: Store
    base: BaseDescription
    plan: Plan
    lockfile: Lockfile | None

    @classmethod
    def of(cls, planned: ProjectPlan) -> BuildInputs:
        """Those of a project."""
        return cls(planned.project.root, planned.store, planned.base, planned.plan, planned.project.lockfile)


class ConceptBuilder:
    """Builds tasks of one plan, with a base and a covariance that are loaded once and only if they are
    needed.
    """

    def __init__(self, inputs: BuildInputs, compute: ComputeOptions, reporter: Reporter) -> None:
        self._inputs = inputs
        self._compute = compute
        self._reporter = reporter
        self._loaded: tuple[Base, Covariance] | None = None

    def load(self) -> tuple[Base, Covariance]:
        """The base and the covariance."""
        if self._loaded is None:
            with self._reporter.stage(f"Loading {self._inputs.base.repo}"):
                from perfusion_registry.base import load_base
                from perfusion_registry.build import load_covariance

                base = load_base(
                    self._inputs.base.for_training, device=self._compute.device, dtype=self._compute.dtype
                )
                self._loaded = base, load_covariance(self._inputs.plan.covariance.path)
        return self._loaded

    def build(self, task: BuildTask, *, format_1: bool | None = None) -> BuiltConcept:
        """Build one task into the store, or take from there what is built already.

        format_1: whether to write format 1, where that has the method. None writes it where the lockfile pins
        exactly those bytes, and else the newest format.
        """
        store = self._inputs.store
        with store.building(task.training, task.name, self._reporter):
            begun = time.monotonic()
            # Another process may have finished the work while this one waited for the lock.
            cached = _cached(self._inputs.store, task)
            sheet = None
            if cached is not None:
                artifact, sheet = load_artifact(store.get(cached)), _sheet_of(store, cached)
            elif task.transferred is not None:
                artifact = self._transfer(task, task.transferred)
            else:
                artifact, sheet = self._judged(task)
            artifact, data = self._written(task, artifact, format_1)
            sha256 = store.put(data)
            if sheet is not None:
                store.put_sheet(sha256, sheet)
            store.record(task.digest, sha256)
            store.record(task.training, sha256)
            store.discard_workspace(task.training)
        return BuiltConcept(
            name=task.name,
            version=task.recipe_version,
            reason=task.reason,
            trained=cached is None and task.transferred is None,
            seconds=round(time.monotonic() - begun, 3),
            sha256=sha256,
            size=len(data),
            steps_kept=artifact.card.steps_kept,
            scores=artifact.card.scores,
            transferred=artifact.card.transferred,
            verdict=artifact.card.verdict,
            sheet=str(store.sheet_path(sha256)) if sheet is not None else None,
            card=artifact.card,
        )

    def _written(self, task: BuildTask, artifact: Artifact, format_1: bool | None) -> tuple[Artifact, bytes]:
        """The artifact with the card of the task's recipe, in the format it is to have, and its bytes: those
        that the lockfile pins, where an earlier perf has written these."""
        artifact = _with_card(self._inputs, task, artifact)
        older = artifact.format_1
        if older is not None and format_1:
            return older, save_artifact(older)
        before = self._inputs.lockfile
        locked = before.concept(task.name) if before else None
        if locked is not None and locked.sha256 is not None:
            unjudged = before_verdicts(artifact.card, task.render)
            less = [Artifact(card, artifact.tensors, older) for card in (unjudged, as_before(unjudged))]
            for known in (older if format_1 is None else None, *less):
                data = save_artifact(known) if known is not None else b""
                if known is not None and locked.sha256 == hashlib.sha256(data).hexdigest():
                    return known, data
        return artifact, save_artifact(artifact)

    def _transfer(self, task: BuildTask, sha256: str) -> Artifact:
        """The concept from its artifact of another base."""
        from perfusion_registry.build.transfer import check_transferable, learned_on, transfer

        store = self._inputs.store
        if not store.has(sha256):
            raise PerfError(
                f"`{task.name}` was transferred from an artifact that is not in this store ({sha256[:12]})",
                where=str(store.path(sha256)),
                hint=f"`perf build {task.name} --for {self._inputs.base.repo} --with FILE` takes it from a "
                f"file, `perf build {task.name} --force` learns it on this base",
            )
        source = load_artifact(store.get(sha256))
        check_transferable(source.card, self._inputs.base)
        before = learned_on(source, self._inputs.base.family, self._inputs.root, self._reporter)
        base, covariance = self.load()
        return transfer(
            source,
            sha256,
            base,
            covariance,
            digest=task.digest,
            licence=self._inputs.base.licence,
            before=before,
        )

    def _train(self, task: BuildTask) -> Artifact:
        from perfusion_registry.build import ConceptSources, build_concept

        base, covariance = self.load()
        store, concept = self._inputs.store, task.recipe.concept
        if task.reason == "forced":
            store.discard_workspace(task.training)
        sources = ConceptSources(
            name=concept.name,
            version=concept.version,
            supercategory=concept.supercategory,
            method=concept.method,
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
            workspace=store.workspace(task.training),
            threads=self._compute.threads,
            reporter=self._reporter,
        )
        for image in task.images:
            if sha256_of(image.path) != image.sha256:
                raise PerfError(
                    "the image changed while it was learned, so the result is not kept",
                    where=str(image.path),
                    hint=f"run `perf build {task.name}` again",
                )
        return artifact

    def _judged(self, task: BuildTask) -> tuple[Artifact, bytes]:
        """What was trained, with its verdict, of which a bad one is a warning, and its sheet."""
        from perfusion_registry.operations.judging import judged, judged_pictures

        base = self.load()[0]
        alike = judged_pictures(base, task, self._reporter)
        artifact, sheet = judged(base, task, self._train(task), alike, self._reporter)
        verdict = artifact.card.verdict
        if verdict is not None and verdict.failed:
            self._reporter.warn(f"{task.name}: {verdict.sentence}")
        return artifact, sheet


def _sheet_of(store: Store, sha256: str) -> bytes | None:
    """The sheet of an artifact whose card is written anew."""
    path = store.sheet_path(sha256)
    return path.read_bytes() if path.is_file() else None


def _with_card(inputs: BuildInputs, task: BuildTask, artifact: Artifact) -> Artifact:
    """The artifact with the card of the task's recipe, and with what training found out."""
    concept = task.recipe.concept
    fields = {
        "name": concept.name,
        "version": concept.version,
        "recipe_digest": task.digest,
        "render": task.render,
        "licence": concept.licence,
        "base_licence": inputs.base.licence,
        "authors": concept.authors,
        "consent": concept.consent,
        "description": concept.description,
    }
    older = artifact.format_1
    chosen = {"render": with_chosen(artifact.card, task.render, task.left_to_build)}
    return Artifact(
        artifact.card.model_copy(update=fields | chosen),
        artifact.tensors,
        older and Artifact(older.card.model_copy(update=fields), older.tensors),
    )


def _settle(
    planned: ProjectPlan, task: BuildTask, built: BuiltConcept, *, locked: bool, reporter: Reporter
) -> None:
    """Write the built concept into the lockfile as it is now on disk."""
    project = ProjectFolder.read(planned.project.root)
    before = project.lockfile.concept(task.name) if project.lockfile else None
    again = before is not None and before.recipe_digest == task.digest and task.reason != OPTIONS_CHANGED
    was = before.sha256 if before is not None and again else None
    if was is not None and was != built.sha256:
        what = (
            f"the bytes of `{task.name}` are not those locked ({was[:12]}, now {built.sha256[:12]}): "
            "the locked ones come from elsewhere"
        )
        if locked:
            raise CheckFailedError(
                what,
                where=str(project.lockfile_path),
                hint="fetch the locked artifact, or leave out --locked",
            )
        reporter.warn(f"{what}; the lockfile now has the new ones")
    task = replace(task, built=built.sha256, reason="")
    plan = replace(planned.plan, tasks=(task,))
    write_lockfile(project.lockfile_path, lock(project, plan, planned.store, replaced=[task.name]))
