"""How long a build will take: its steps, and what builds like it took on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from perfusion_registry.amounts import count, duration
from perfusion_registry.artifact import Store, digest_of
from perfusion_registry.artifact.durations import BuildTime, Durations
from perfusion_registry.build.ahead import AfterTraining
from perfusion_registry.build.checkpoint import steps_done
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.resolve import BuildTask
from perfusion_registry.resolve.base import BaseFacts


@dataclass(frozen=True)
class Foretold:
    """What can be known of a training before it begins. seconds: of what is left of it, by the latest build
    of its kind, whichever project it was of; None where there was none. otherwise: whether that build was in
    another number of processes or threads. at_most: whether it shared the processor with more of them. done:
    the steps after which it was interrupted, from where it goes on; None where it has not begun."""

    name: str
    steps: int
    seconds: float | None = None
    done: int | None = None
    otherwise: bool = False
    at_most: bool = False

    @property
    def left(self) -> int:
        """Steps to train."""
        return max(self.steps - (self.done or 0), 0)

    @property
    def steps_in_words(self) -> str:
        """`200 steps`, or `160 of 200 steps, going on after step 40`."""
        steps = count(self.steps, "step")
        return steps if self.done is None else f"{self.left} of {steps}, going on after step {self.done}"

    @property
    def in_words(self) -> str:
        """Its steps, and its time where that is known: `200 steps, about 4 min 10 s`."""
        about = "at most about" if self.at_most else "about"
        return self.steps_in_words + ("" if self.seconds is None else f", {about} {duration(self.seconds)}")


def time_keys(task: BuildTask, base: BaseFacts, compute: ComputeOptions, processes: int) -> tuple[str, str]:
    """The kind of a build: all that decides how long its steps are; and the kind without how it shares the
    processor. processes: that train at once."""
    method, batch = task.recipe.concept.method, task.training_options.batch
    shared = [compute.threads, processes]
    where = [compute.device, compute.dtype]
    last = [compute.offload] if compute.offload else []
    return (
        digest_of(["durations", base.digest, method, batch, [*where, *shared, *last]]),
        digest_of(["durations", base.digest, method, batch, [*where, *last]]),
    )


def foretell(
    task: BuildTask, store: Store, base: BaseFacts, compute: ComputeOptions, processes: int = 1
) -> Foretold:
    """What can be known of the training of a task."""
    known = Foretold(task.name, task.training_options.steps, done=_done(task, store))
    for number, key in enumerate(time_keys(task, base, compute, processes)):
        if (before := Durations(store.root).latest(key)) is not None:
            seconds, shared = before.of(known.left), (before.processes or 1) > processes
            return replace(known, seconds=seconds, otherwise=number > 0, at_most=number > 0 and shared)
    return known


def where_it_stands(task: BuildTask, store: Store) -> str | None:
    """Of a build that was interrupted, how far it is, in words; None of any other."""
    done = _done(task, store)
    if done is None:
        return None
    steps = task.training_options.steps
    at = f"stands at step {done} of {steps}" if done < steps else "is trained, and has to be judged"
    return f"{at}; perf build goes on"


def _done(task: BuildTask, store: Store) -> int | None:
    """The steps that an earlier build has done, and the next takes over."""
    if not task.trained or task.reason == "forced":
        return None
    return steps_done(store.begun(task.training))


def keep_time(
    store: Store,
    kinds: Sequence[str],
    steps: int,
    trained: float,
    whole: float,
    judging: float | None = None,
    *,
    processes: int = 1,
) -> None:
    """Remember what a build of these kinds took. steps: of training that were done here, in `trained` of the
    `whole` seconds; judging: those of its verdict; processes: that trained at once."""
    if steps:
        rest = max(whole - trained, 0.0)
        took = BuildTime(step=trained / steps, rest=rest, judging=judging, processes=processes)
        for kind in kinds:
            Durations(store.root).keep(kind, took)


def ahead_of(before: BuildTime | None, counted: AfterTraining) -> AfterTraining:
    """What follows a training, in its steps: by the latest build of its kind, else as it was counted."""
    if before is None or before.judging is None or before.step == 0:
        return counted
    judging = min(before.judging, before.rest)
    return AfterTraining((before.rest - judging) / before.step, judging / before.step)


def in_order(foretold: Sequence[Foretold], processes: int = 1) -> list[Foretold]:
    """In which order they are trained: the shortest first, so that something is there soon; in several
    processes the longest first, so that none of them has all the rest to do at the end."""
    known = all(one.seconds is not None for one in foretold)

    def length(one: Foretold) -> float:
        return one.seconds if known and one.seconds is not None else one.left

    return sorted(foretold, key=length, reverse=processes > 1)


def how_long(foretold: Sequence[Foretold], processes: int = 1) -> list[str]:
    """What is said of all trainings of a build beforehand, in lines: the whole, and each by itself."""
    if not foretold:
        return []
    seconds = _together(foretold, processes)
    time = "how long is told while the first trains"
    if seconds is not None:
        other = any(one.otherwise for one in foretold)
        how = "by a build here in other processes or threads" if other else "as it took here the last time"
        about = "at most about" if any(one.at_most for one in foretold) else "about"
        time = f"{about} {duration(seconds)}, {how}"
    if len(foretold) == 1:
        return [f"1 concept to train, {foretold[0].steps_in_words}: {time}"]
    wide = max(len(one.name) for one in foretold)
    each = [f"  {one.name:<{wide}}  {one.in_words}" for one in in_order(foretold, processes)]
    return [f"{count(len(foretold), 'concept')} to train: {time}", *each]


def still_to_do(foretold: Sequence[Foretold], processes: int = 1) -> str:
    """What is said behind each that is built: how many are left, and how long they take."""
    seconds = _together(foretold, processes)
    takes = "" if seconds is None else f", about {duration(seconds)}"
    return f"{count(len(foretold), 'concept')} to go{takes}"


def _together(foretold: Sequence[Foretold], processes: int) -> float | None:
    """Seconds of all of them, in so many processes; None where one of them is not known."""
    known = [one.seconds for one in foretold if one.seconds is not None]
    if len(known) < len(foretold):
        return None
    # Nothing is done sooner than the longest, however many processes there are.
    return max([sum(known) / processes, *known])
