"""Building what a plan needs: here, in several processes or on a cluster; each is locked as it is done."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from perfusion_registry.errors import CheckFailedError
from perfusion_registry.extras import require
from perfusion_registry.operations.build_time import Foretold, foretell, how_long, in_order, still_to_do
from perfusion_registry.operations.cluster_build import cluster_of, fetch_done, train_on
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.concept_builder import (
    BuildInputs,
    BuiltConcept,
    ConceptBuilder,
    Training,
    built_before,
)
from perfusion_registry.operations.pictures import check_readable
from perfusion_registry.operations.plan import ProjectPlan
from perfusion_registry.operations.supercategory import check_drawn
from perfusion_registry.recipe import write_lockfile
from perfusion_registry.recipe.mask_files import reads_mask_files
from perfusion_registry.reporter import Reporter
from perfusion_registry.resolve import BuildTask, ProjectFolder, lock
from perfusion_registry.resolve.planning import OPTIONS_CHANGED
from perfusion_registry.workers import worker_pool

if TYPE_CHECKING:
    from perfusion_registry.cluster.address import ClusterAddress


def trained_by(planned: ProjectPlan) -> list[BuildTask]:
    """The tasks of a plan whose tensors have to be learned: not in the store yet, transferred or imported."""
    needed = planned.plan.needed
    return [task for task in needed if task.trained and built_before(planned.store, task) is None]


def tell_how_long(planned: ProjectPlan, compute: ComputeOptions, reporter: Reporter) -> None:
    """Say what the trainings of this plan will take, in one process, in which order."""
    for line in how_long(_foretold(planned, trained_by(planned), compute)):
        reporter.note(line)


def _foretold(
    planned: ProjectPlan, tasks: Sequence[BuildTask], compute: ComputeOptions, processes: int = 1
) -> list[Foretold]:
    return [foretell(task, planned.store, planned.base, compute, processes) for task in tasks]


def build_plan(
    planned: ProjectPlan,
    compute: ComputeOptions,
    *,
    locked: bool,
    reporter: Reporter,
    jobs: int = 1,
    cluster: ClusterAddress | None = None,
) -> tuple[BuiltConcept, ...]:
    """Build every task that needs it; the lockfile follows each one, so that a killed run loses one at most.

    locked: raise CheckFailedError when the bytes of an unchanged recipe differ from the lockfile's. jobs: how
    many are trained at once, each in a process of its own. The base is only loaded when something has to be
    trained. What is built when this ends early stays in the store; the rest resumes where its checkpoint is.
    cluster: where it is trained, if not here.
    """
    if any(task.trained for task in planned.plan.needed):
        from perfusion_registry.base import require_trainable

        require_trainable(planned.base)
    for task in trained_by(planned):
        if (word := task.recipe.concept.supercategory) is not None:
            check_drawn(planned.base, word, f"the recipe of {task.name}, concept.supercategory")
    with closing(_run(planned, compute, jobs, cluster, reporter)) as each:
        done = []
        for task, built in each:
            _settle(planned, task, built, locked=locked, reporter=reporter)
            done.append(built)
    return tuple(done)


def _run(
    planned: ProjectPlan,
    compute: ComputeOptions,
    jobs: int,
    cluster: ClusterAddress | None,
    reporter: Reporter,
) -> Generator[tuple[BuildTask, BuiltConcept]]:
    """Build what is needed, here, in other processes or on other machines; what needs no training is done
    here."""
    if cluster is None:
        require("torch")  # before another process is waited for
    pool = None if cluster is None else cluster_of(cluster, planned, reporter)
    if pool is not None:
        fetch_done(pool, [task for task in planned.plan.needed if task.trained])
    needed, trained = planned.plan.needed, trained_by(planned)
    pictures = [
        (image.path, image.mask if reads_mask_files(task.training_options.mask) else None)
        for task in trained
        for image in task.images
    ]
    check_readable(pictures, str(planned.project.manifest_path))  # before the base is loaded
    if pool is not None:
        there = set()
        with closing(train_on(pool, planned, compute, trained)) as results:
            for task, built in results:
                there.add(task.name)
                yield task, built
        needed, trained = tuple(task for task in needed if task.name not in there), []
    alone = jobs == 1 or len(trained) < 2
    processes = 1 if alone else min(jobs, len(trained))
    foretold = _foretold(planned, trained, compute, processes)
    for line in how_long(foretold, processes):
        reporter.note(line)
    by_name = {task.name: task for task in trained}
    left = [by_name[one.name] for one in in_order(foretold, processes)]
    at_hand = [task for task in needed if task.name not in by_name]
    begin = partial(ConceptBuilder, BuildInputs.of(planned, processes), compute)
    preload = ["perfusion_registry.base.preloaded"]
    for tasks, at_once in (
        ([*at_hand, *left] if alone else at_hand, 1),
        ([] if alone else [*left], processes),
    ):
        trainings = [Training(task) for task in tasks]
        with (
            worker_pool(begin, at_once, reporter, preload=preload) as run,
            closing(run(trainings)) as results,
        ):
            for done, built in results:
                yield done.task, built
                if done.task in left:
                    left.remove(done.task)
                    if left:
                        rest = still_to_do(_foretold(planned, left, compute, processes), processes)
                        reporter.note(f"{done.task.name} is built and locked; {rest}")


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
            "the locked ones were made with another kind of processor, number of threads, or version of "
            "PyTorch or perf"
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
