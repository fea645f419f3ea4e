"""`build`: train the concepts whose inputs changed, store them, and lock them, concept by concept."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_serializer
from pydantic_core.core_schema import SerializerFunctionWrapHandler

from perfusion_registry.amounts import count
from perfusion_registry.artifact import read_card
from perfusion_registry.base.offload_kinds import require_whole_models
from perfusion_registry.errors import CheckFailedError, PerfError
from perfusion_registry.operations.build_time import Foretold, foretell
from perfusion_registry.operations.building import build_plan, trained_by
from perfusion_registry.operations.cluster_build import check_for_cluster
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.concept_builder import BuiltConcept
from perfusion_registry.operations.drawing import folder_of
from perfusion_registry.operations.lock import stale
from perfusion_registry.operations.plan import ProjectPlan, load_plan
from perfusion_registry.operations.result import InProcess, Result, left_out_if_none, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import write_lockfile
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Version
from perfusion_registry.recipe.writing import make_folder, replace_bytes
from perfusion_registry.resolve import changes_of, lock
from perfusion_registry.resolve.choice import must_choose
from perfusion_registry.shards import idle, parse_shard, share

if TYPE_CHECKING:
    from perfusion_registry.cluster.address import ClusterAddress


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What to build. names: the concepts (default: all). force: even what is up to date.

    jobs: processes at once. shard: `2/8` is the second of eight parts of them, for as many machines.
    cluster: of machines that train; one thread each where `compute` says nothing of threads.

    locked: raise StaleLockfileError where the lockfile would change, and CheckFailedError where the bytes of
    an unchanged recipe are not the locked ones.
    """

    names: tuple[str, ...] = ()
    force: bool = False
    locked: bool = False
    jobs: int = 1
    shard: str | None = None
    dry_run: bool = False
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    cluster: ClusterAddress | None = None

    def __post_init__(self) -> None:
        """Raise PerfError for layers that would be away when gradients come back to them, and for what a
        cluster does not do."""
        require_whole_models(self.compute.offload)
        if self.cluster is not None:
            check_for_cluster(self.force, self.jobs)


class NeededConcept(FileModel):
    """A concept that a build would train, and why. foretold: what that would take; None where nothing is to
    be trained. at_step: the step after which its training was interrupted, from where it goes on."""

    name: Name
    reason: str
    version: InProcess[Version]
    foretold: InProcess[Foretold | None] = None
    at_step: int | None = left_out_if_none()


class BuildResult(Result):
    """`perf build`. out: the file that was written instead of the lockfile, under another supercategory.

    doubtful: of what was built or is up to date, the concepts that failed a test of their verdicts, with what
    these say. not_built_here: of what was asked for, scene packs and concepts of registries, each with its
    reason. locked: whether the lockfile has what was built. idle: what is said of a shard without a concept.
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
    idle: InProcess[str | None] = None

    def raise_if_doubtful(self) -> None:
        """Raise CheckFailedError where a verdict is fair or poor."""
        if self.doubtful:
            raise CheckFailedError(
                f"the verdict is not good for {', '.join(f'`{name}`' for name in self.doubtful)}",
                hint="`perf info NAME` shows it, and a sheet of pictures; it is built and locked "
                "all the same",
            )

    def plan_in_words(self, *, dry_run: bool) -> Iterator[str]:
        """What would be built, or why nothing is, in lines. dry_run: it was only asked for."""
        current, elsewhere = self.up_to_date, self.not_built_here
        if self.idle is not None:
            yield f"Nothing to build: {self.idle}"
        elif not current and not self.needed and not elsewhere:
            yield "Nothing to build: the project has no concepts yet (perf add NAME --super WORD)"
        elif not current and not self.needed:
            yield "Nothing to build here"
            yield from (f"  {name} {why}" for name, why in elsewhere.items())
        elif not self.needed:
            are = "1 concept is" if len(current) == 1 else f"{len(current)} concepts are"
            yield f"Nothing to build: {are} up to date ({self.seconds:.2f} s)"
        for row in self.needed:
            takes = "" if row.foretold is None else f"; {row.foretold.in_words}"
            yield f"Would build {row.name} {row.version}: {row.reason}{takes}"
        if dry_run and self.needed and current:
            yield f"Up to date: {', '.join(current)}"

    @model_serializer(mode="wrap")
    def _printed(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the file where nothing was built."""
        values: dict[str, Any] = handler(self)
        if not self.built and self.out is None:
            del values["out"]
        return values


def check_learned(files: Sequence[Path] | None, covariance: Path | None) -> None:
    """Raise PerfError for what a transfer takes, and a build does not."""
    if files or covariance is not None:
        raise PerfError(
            "a build learns from the pictures of recipes, with the project's covariance",
            where="--with" if files else f"--covariance {covariance}",
            hint="leave it out; with --for BASE an artifact is transferred to another base",
        )


def build(workspace: Workspace, options: BuildOptions) -> BuildResult:
    """Train what has to be trained; a build that is interrupted resumes where it was."""
    begun, names = time.monotonic(), options.names
    if options.shard is not None:
        shard = parse_shard(options.shard)
        project = workspace.read()
        trained = [name for name in project.select(names) if project.manifest.concepts[name].recipe]
        if trained:  # else it is said why there is nothing
            names = share(sorted(trained), shard)
        if trained and not names:
            return BuildResult(
                needed=(),
                built=(),
                up_to_date=(),
                seconds=round(time.monotonic() - begun, 3),
                idle=idle(shard, count(len(trained), "concept")),
            )
    planned = load_plan(workspace, names or None, force=options.force)
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
        elsewhere = _not_built_here(planned, names)
        return result_of(planned, begun, needed=needed_of(planned, options.compute), not_built_here=elsewhere)
    built = build_plan(
        planned,
        options.compute,
        locked=options.locked,
        jobs=options.jobs,
        cluster=options.cluster,
        reporter=workspace.reporter,
    )
    return result_of(planned, begun, built=tuple(_with_sheet(planned, row) for row in built))


def _with_sheet(planned: ProjectPlan, row: BuiltConcept) -> BuiltConcept:
    """The concept with its sheet where a person looks for pictures: in the place of an earlier one, and never
    of another file. Where that cannot be written, it stays in the store alone."""
    from perfusion_registry.render.output import next_free
    from perfusion_registry.verdict import read_sheet

    def free(place: Path) -> bool:
        if not os.path.lexists(place):
            return True
        there = read_sheet(place)
        return there is not None and there.name == row.name

    if row.sheet is None:
        return row
    try:
        place = next_free(folder_of(planned.project) / f"{row.name}-{row.version}-sheet.jpg", free)
        make_folder(place.parent)
        replace_bytes(place, Path(row.sheet).read_bytes())
    except (PerfError, OSError):
        return row
    return row.model_copy(update={"sheet": str(place)})


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


def needed_of(planned: ProjectPlan, compute: ComputeOptions) -> tuple[NeededConcept, ...]:
    """What a build of this plan would train, and why."""
    trained = {task.name for task in trained_by(planned)}
    rows = []
    for task in planned.plan.needed:
        known = foretell(task, planned.store, planned.base, compute) if task.name in trained else None
        rows.append(
            NeededConcept(
                name=task.name,
                reason=task.reason,
                version=task.recipe_version,
                foretold=known,
                at_step=None if known is None else known.done,
            )
        )
    return tuple(rows)


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
    """The sentences of verdicts that are fair or poor, by name."""
    cards = {row.name: row.card for row in built}
    for task in planned.plan.tasks:
        if task.built is not None:
            cards[task.name] = read_card(planned.store.path(task.built))
    verdicts = {name: card.verdict for name, card in cards.items()}
    return {name: verdict.in_words for name, verdict in verdicts.items() if verdict and verdict.failed}
