"""Trainings as tasks of several machines (`cluster`): what a builder does on one machine, done by any of
them."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.amounts import count
from perfusion_registry.artifact import Store, read_card
from perfusion_registry.build.checkpoint import step_of
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.concept_builder import BuildInputs, BuiltConcept, ConceptBuilder, Training
from perfusion_registry.operations.plan import ProjectPlan
from perfusion_registry.reporter import Reporter
from perfusion_registry.resolve import BuildTask

if TYPE_CHECKING:
    from perfusion_registry.cluster.address import ClusterAddress
    from perfusion_registry.cluster.pool import ClusterPool
    from perfusion_registry.cluster.shared_store import SharedStore


@dataclass(frozen=True)
class ClusterTraining(Training):
    """A concept that any machine may learn. Its checkpoints belong to its tensors, its result to its
    recipe."""

    @property
    def checkpoints(self) -> str:
        """The digest of its tensors."""
        return self.task.training

    def steps(self, checkpoint: Path | bytes) -> int:
        """The steps of a training."""
        return step_of(checkpoint)

    def fetch(self, shared: SharedStore, store: Store) -> bool:
        """Its artifact, and one with the same tensors."""
        return shared.fetch((self.task.training, self.task.digest), store)

    def give(self, shared: SharedStore, store: Store) -> bool:
        """Its artifact."""
        return shared.give((self.task.training, self.task.digest), store)

    def packed(self, result: BuiltConcept) -> str:
        """What was built, without its card, which is in the artifact."""
        return json.dumps({"row": result.model_dump(mode="json", by_alias=True), "warned": result.warned})

    def unpacked(self, text: str, store: Store) -> BuiltConcept:
        """What was built, as this machine has it."""
        said = json.loads(text)
        row, sha256 = said["row"], said["row"]["sha256"]
        sheet = store.sheet_path(sha256)
        row["sheet"] = str(sheet) if sheet.is_file() else None
        card = read_card(store.path(sha256))
        return BuiltConcept.model_validate({**row, "warned": said["warned"], "card": card})


def cluster_of(cluster: ClusterAddress, planned: ProjectPlan, reporter: Reporter) -> ClusterPool:
    """The cluster for what a project builds."""
    from perfusion_registry.cluster.pool import ClusterPool

    return ClusterPool(cluster, planned.store, planned.base, reporter)


def fetch_done(pool: ClusterPool, tasks: Sequence[BuildTask]) -> None:
    """Bring here what other machines have learned already."""
    pool.fetch_done([ClusterTraining(task) for task in tasks])


def train_on(
    pool: ClusterPool, planned: ProjectPlan, compute: ComputeOptions, tasks: Sequence[BuildTask]
) -> Generator[tuple[BuildTask, BuiltConcept]]:
    """Learn concepts on the machines of a cluster, and yield each as soon as this machine has it.

    Of several with the same tensors the first is learned there; the caller finds these here for the others.
    """
    first = {task.training: task for task in reversed(tasks)}
    trainings = [ClusterTraining(task) for task in tasks if first[task.training] is task]
    inputs = BuildInputs.of(planned)
    inputs = replace(inputs, plan=replace(inputs.plan, tasks=()))
    begin = partial(ConceptBuilder, inputs, replace(compute, threads=None))
    title = f"Building {count(len(trainings), 'concept')}"
    for done, built in pool.run(title, begin, trainings, compute.device, compute.threads):
        yield done.task, built


def check_for_cluster(force: bool, jobs: int) -> None:
    """Raise PerfError for what makes no sense on several machines."""
    if force:
        raise PerfError(
            "what a cluster has built is not built again",
            where="--force",
            hint="leave out --on to train it anew on this machine",
        )
    if jobs != 1:
        raise PerfError(
            "a cluster does as many tasks at once as it has processors and memory for",
            where="--jobs",
            hint="leave it out; --threads says how many processors a task has",
        )
