"""One concept from its recipe into the store: trained or transferred, judged, and written with its card."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from perfusion_registry.artifact import Artifact, ConceptCard, Store, load_artifact
from perfusion_registry.artifact.card import TransferSource
from perfusion_registry.artifact.durations import Durations
from perfusion_registry.artifact.verdict import Rating, Verdict
from perfusion_registry.build.ahead import AfterTraining
from perfusion_registry.errors import PerfError
from perfusion_registry.file_digests import sha256_of
from perfusion_registry.operations.artifact_card import with_card, written
from perfusion_registry.operations.build_time import ahead_of, keep_time, time_keys
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.plan import ProjectPlan
from perfusion_registry.operations.result import InProcess, left_out_if_none
from perfusion_registry.recipe import Lockfile
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Sha256, Version
from perfusion_registry.reporter import Reporter
from perfusion_registry.resolve import BuildTask, Plan

if TYPE_CHECKING:
    from perfusion_registry.base import Base, BaseDescription
    from perfusion_registry.build import Covariance


class BuiltConcept(FileModel):
    """A concept that was built. trained: False where its tensors were there already, and where it was
    transferred or imported; transferred: from what. verdict: what it is good for; None where it was trained
    before there were verdicts. rating: that in a word, as in `perf.list`. sheet: the file of its pictures.
    warned: whether a warning has told of a bad verdict.
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
    rating: Rating | None = left_out_if_none()
    verdict: Verdict | None = left_out_if_none()
    sheet: str | None = left_out_if_none()
    warned: InProcess[bool] = False
    card: InProcess[ConceptCard]

    @property
    def scores_in_words(self) -> dict[str, str]:
        """What the scores of its kept step are of, and what they lie between, by what they are called."""
        image, text = self.scores.get("image"), self.scores.get("text")
        said = {}
        if image is not None:
            plain, own = self.scores.get("image_plain"), self.scores.get("image_self")
            reached = [] if plain is None else [f"the plain word reaches {plain:.3f}"]
            reached += [] if own is None else [f"they have {own:.3f} to each other"]
            behind = f" ({', '.join(reached)})" if reached else ""
            said["likeness"] = f"{image:.3f} to your pictures, by the base's CLIP model{behind}"
        if text is not None:
            share = f"{round(100 * text)} %"
            said["prompts"] = f"what else they ask for is shown {share} as well as with the plain word"
        return said


@dataclass(frozen=True)
class BuildInputs:
    """What a builder needs of a planned project. It travels to worker processes by pickle, which a manifest
    cannot: the model of its scenes is made for the methods that are installed.

    root: the project's folder. lockfile: as it was before the build. processes: how many train at once.
    """

    root: Path
    store: Store
    base: BaseDescription
    plan: Plan
    lockfile: Lockfile | None
    processes: int = 1

    @classmethod
    def of(cls, planned: ProjectPlan, processes: int = 1) -> BuildInputs:
        """Those of a project."""
        project = planned.project
        return cls(project.root, planned.store, planned.base, planned.plan, project.lockfile, processes)


class ConceptBuilder:
    """Builds tasks of one plan, with a base and a covariance that are loaded once and only if they are
    needed.
    """

    def __init__(self, inputs: BuildInputs, compute: ComputeOptions, reporter: Reporter) -> None:
        self._inputs = inputs
        self._compute = compute
        self._reporter = reporter
        self._loaded: tuple[Base, Covariance | None] | None = None
        self._training: tuple[int, float] = 0, 0.0  # steps of the latest training, and its seconds
        self._judging = 0.0  # seconds of the latest verdict

    def load(self) -> tuple[Base, Covariance | None]:
        """The base and the covariance, where there is one."""
        if self._loaded is None:
            with self._reporter.stage(f"Loading {self._inputs.base.repo}"):
                from perfusion_registry.base import load_base
                from perfusion_registry.build import load_covariance

                compute = self._compute
                base = load_base(
                    self._inputs.base.for_training,
                    device=compute.device,
                    dtype=compute.dtype,
                    offload=compute.offload,
                )
                file = self._inputs.plan.covariance
                self._loaded = base, None if file is None else load_covariance(file.path)
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
            cached = built_before(self._inputs.store, task)
            sheet = None
            if cached is not None:
                artifact = load_artifact(store.get(cached))
                self._reporter.note(_known(task.name, artifact.card.name))
            elif task.transferred is not None:
                artifact = self._transfer(task, task.transferred)
            elif task.imported is not None:
                artifact = self._import(task)
            else:
                artifact, sheet = self._judged(task)
            locked = self._inputs.lockfile.concept(task.name) if self._inputs.lockfile else None
            artifact = with_card(task, artifact, self._inputs.base.licence)
            if cached is not None:
                sheet = _sheet_of(store, cached, task.name, artifact.card.verdict)
            artifact, data = written(task, artifact, locked, format_1)
            sha256 = store.put(data)
            if sheet is not None:
                store.put_sheet(sha256, sheet)
            store.record(task.digest, sha256)
            store.record(task.training, sha256)
            store.discard_workspace(task.training)
        verdict = artifact.card.verdict
        seconds, trained = time.monotonic() - begun, cached is None and task.trained
        if trained:
            keep_time(
                store,
                self._kinds(task),
                *self._training,
                seconds,
                self._judging,
                processes=self._inputs.processes,
            )
        return BuiltConcept(
            name=task.name,
            version=task.recipe_version,
            reason=task.reason,
            trained=trained,
            seconds=round(seconds, 3),
            sha256=sha256,
            size=len(data),
            steps_kept=artifact.card.steps_kept,
            scores=artifact.card.scores,
            transferred=artifact.card.transferred,
            rating=verdict.rating if verdict is not None else None,
            verdict=verdict,
            sheet=str(store.sheet_path(sha256)) if sheet is not None else None,
            warned=trained and verdict is not None and bool(verdict.failed),
            card=artifact.card,
        )

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

    def _import(self, task: BuildTask) -> Artifact:
        """The concept from the file that somebody has of it."""
        from perfusion_registry.build.importing import import_concept

        inputs = self._inputs
        folder, source = (inputs.root / task.source).parent, task.source
        return import_concept(
            task.recipe, folder, inputs.base, task.train, task.render, digest=task.digest, where=source
        )

    def _train(self, task: BuildTask) -> Artifact:
        from perfusion_registry.build import ConceptSources, build_concept

        base, covariance = self.load()
        store, concept = self._inputs.store, task.recipe.concept
        if concept.supercategory is None:
            raise PerfError(
                f"`{task.name}` has no supercategory to learn it from",
                where=f"{task.source}, concept.supercategory",
                hint="say which plain word it is a kind of",
            )
        if task.reason == "forced":
            store.discard_workspace(task.training)
        sources = ConceptSources(
            name=concept.name,
            version=concept.version,
            supercategory=concept.supercategory,
            method=concept.method,
            images=tuple(image.path for image in task.images),
            masks=tuple(image.mask for image in task.images),
            captions=tuple(image.caption for image in task.images),
        )
        artifact: Artifact = build_concept(
            base,
            covariance,
            sources,
            task.training_options,
            task.render,
            digest=task.digest,
            workspace=store.workspace(task.training),
            threads=self._compute.threads,
            timed=self._timed,
            ahead=self._ahead(task),
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

    def _timed(self, steps: int, seconds: float) -> None:
        self._training = steps, seconds

    def _kinds(self, task: BuildTask) -> tuple[str, str]:
        return time_keys(task, self._inputs.base, self._compute, self._inputs.processes)

    def _ahead(self, task: BuildTask) -> AfterTraining:
        """What will follow the training."""
        from perfusion_registry.verdict import pictures_to_judge

        options, method = task.training_options, task.recipe.concept.method
        choosing = task.left_to_build is not None
        judged = pictures_to_judge(method, options, task.render, choosing=choosing)
        counted = AfterTraining.counted(options, judged, chosen=self.load()[0].scorer is not None)
        before = Durations(self._inputs.store.root).latest(self._kinds(task)[0])
        return ahead_of(before, counted)

    def _judged(self, task: BuildTask) -> tuple[Artifact, bytes]:
        """What was trained, with its verdict, of which a bad one is a warning, and its sheet."""
        from perfusion_registry.operations.judging import judged, look_at_task

        base = self.load()[0]
        looked = look_at_task(base, task, self._reporter)
        trained = self._train(task)
        begun = time.monotonic()
        artifact, sheet = judged(base, task, trained, looked, self._reporter)
        self._judging = time.monotonic() - begun
        verdict = artifact.card.verdict
        if verdict is not None and verdict.failed:
            self._reporter.warn(f"{task.name} is {verdict.in_words}")
        return artifact, sheet


@dataclass(frozen=True)
class Training:
    """A task as a worker takes it: another process, or another machine."""

    task: BuildTask

    @property
    def title(self) -> str:
        """The concept."""
        return self.task.name

    def run(self, worker: ConceptBuilder) -> BuiltConcept:
        """Build it, or take from the store what is built."""
        return worker.build(self.task)


def built_before(store: Store, task: BuildTask) -> str | None:
    """The artifact with the task's tensors, if the store has it and they are not to be trained anyway."""
    return None if task.reason == "forced" else store.lookup(task.training)


def _known(name: str, learned_as: str) -> str:
    """That a concept is not trained, since the store has its tensors."""
    was = "" if name == learned_as else f", as {learned_as}"
    return f"{name}: what its recipe asks for was learned before{was}, so nothing is trained"


def _sheet_of(store: Store, sha256: str, name: str, verdict: Verdict | None) -> bytes | None:
    """The sheet of an artifact whose card is written anew, for the concept `name`."""
    from perfusion_registry.verdict import renamed_sheet

    path = store.sheet_path(sha256)
    return renamed_sheet(path, name, verdict) if path.is_file() else None
