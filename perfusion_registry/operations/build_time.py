"""How long a build will take: its steps, and what builds like it took on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perfusion_registry.amounts import duration
from perfusion_registry.artifact import Store, digest_of
from perfusion_registry.artifact.durations import BuildTime, Durations
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.resolve import BuildTask
from perfusion_registry.resolve.base import BaseFacts


@dataclass(frozen=True)
class Foretold:
    """What can be known of a training before it begins. seconds: by the latest build of its kind; None where
    there was none. begun: whether it was interrupted, and goes on."""

    steps: int
    seconds: float | None
    begun: bool


def time_key(task: BuildTask, base: BaseFacts, compute: ComputeOptions, processes: int) -> str:
    """The kind of a build: all that decides how long its steps are. processes: that train at once."""
    method, batch = task.recipe.concept.method, task.training_options.batch
    machine = [compute.device, compute.dtype, compute.threads, processes]
    machine += [compute.offload] if compute.offload else []
    return digest_of(["durations", base.digest, method, batch, machine])


def foretell(
    task: BuildTask, store: Store, base: BaseFacts, compute: ComputeOptions, processes: int = 1
) -> Foretold:
    """What can be known of the training of a task."""
    before = Durations(store.root).latest(time_key(task, base, compute, processes))
    seconds = None if before is None else before.of(task.training_options.steps)
    return Foretold(task.training_options.steps, seconds, store.has_begun(task.training))


def keep_time(store: Store, kind: str, steps: int, trained: float, whole: float) -> None:
    """Remember what a build of this kind took. steps: of training that were done here, in `trained` of the
    `whole` seconds."""
    if steps:
        Durations(store.root).keep(kind, BuildTime(step=trained / steps, rest=max(whole - trained, 0.0)))


def how_long(foretold: Sequence[Foretold], processes: int = 1) -> str:
    """One line about all trainings of a build."""
    count, steps = len(foretold), sorted({one.steps for one in foretold})
    concepts = "1 concept" if count == 1 else f"{count} concepts"
    said = " and ".join(filter(None, [", ".join(map(str, steps[:-1])), str(steps[-1])]))
    each = " each" if count > 1 and len(steps) == 1 else ""
    line = f"{concepts} to train, {said} {'step' if steps == [1] else 'steps'}{each}"
    known = [one.seconds for one in foretold if one.seconds is not None]
    if len(known) < count:
        return f"{line}; how long that takes is told after the first of them"
    at_most = " at most" if any(one.begun for one in foretold) else ""
    return f"{line}: about {duration(sum(known) / processes)}{at_most}, as it took here the last time"
