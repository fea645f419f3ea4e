"""An evaluation's orders done by several machines (`cluster`): what is built, drawn and judged on one machine
with `--jobs`, done by any of them."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from perfusion_registry.artifact import Store, digest_of
from perfusion_registry.build.checkpoint import step_of
from perfusion_registry.evaluate.building import BuildOrder
from perfusion_registry.evaluate.cache import Cache
from perfusion_registry.evaluate.drawing import DrawOrder
from perfusion_registry.evaluate.gating import GateOrder
from perfusion_registry.evaluate.scoring import ScoreOrder
from perfusion_registry.evaluate.worker import Worker, WorkerSetup
from perfusion_registry.recipe.options import TrainingOptions
from perfusion_registry.reporter import Reporter

if TYPE_CHECKING:
    from perfusion_registry.cluster.address import ClusterAddress
    from perfusion_registry.cluster.pool import ClusterPool
    from perfusion_registry.cluster.shared_store import SharedStore
    from perfusion_registry.workers import Run

Order = BuildOrder | DrawOrder | ScoreOrder | GateOrder
T = TypeVar("T", bound=Any)


@dataclass(frozen=True)
class OrderTask:
    """An order that any machine may do.

    reads, writes: the files of an evaluation's cache that it needs and that it makes, by their places below
    the store. artifacts: those that it needs, by their SHA-256.
    """

    order: Order
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    artifacts: tuple[str, ...]

    @classmethod
    def of(cls, order: Order) -> OrderTask:
        """The task of an order, wherever its machine keeps things."""
        here = Cache(Path())
        if isinstance(order, BuildOrder):
            return cls(order, (), (), ())
        if isinstance(order, ScoreOrder):
            read = [here.picture(key) for key in order.keys]
            if order.needs_attention:
                read += [here.attention(key) for key in order.keys]
            wrote = [here.score_file(order.key(key)) for key in order.keys]
            return cls(order, _places(read), _places(wrote), ())
        if isinstance(order, GateOrder):
            called = tuple(concept.sha256 for concept in order.drawn.concepts)
            return cls(order, (), _places([here.score_file(order.key)]), called)
        keys = order.keys().values()
        wrote = [here.picture(key) for key in keys]
        if order.keeps_attention:
            wrote += [here.attention(key) for key in keys]
        return cls(order, (), _places(wrote), tuple(concept.sha256 for concept in order.concepts))

    @property
    def title(self) -> str:
        """The order's."""
        return self.order.title

    @property
    def imported(self) -> bool:
        """Whether it makes a concept of somebody's file, which no other machine has."""
        return isinstance(self.order, BuildOrder) and not isinstance(self.order.train, TrainingOptions)

    def done(self, store: Store) -> bool:
        """Whether a machine has what it makes."""
        if isinstance(self.order, BuildOrder):
            return self.order.built(store) is not None
        return all((store.root / place).exists() for place in self.writes)

    @property
    def checkpoints(self) -> str | None:
        """The digest of what a build trains; nothing else has checkpoints."""
        return self.order.training if isinstance(self.order, BuildOrder) else None

    def steps(self, checkpoint: Path | bytes) -> int:
        """The steps of a training."""
        return step_of(checkpoint)

    def fetch(self, shared: SharedStore, store: Store) -> bool:
        """Bring what it makes, if it is made; else what it needs."""
        if isinstance(self.order, BuildOrder):
            return shared.fetch((self.order.training, self.order.digest), store)
        if all(_fetched(place, shared, store) for place in self.writes):
            return True
        for place in self.reads:
            _fetched(place, shared, store)
        for sha256 in self.artifacts:
            if not store.has(sha256):
                shared.fetch_artifact(sha256, store)
        return False

    def give(self, shared: SharedStore, store: Store) -> bool:
        """Share what it made. What a machine that was faster made takes its place."""
        if isinstance(self.order, BuildOrder):
            return shared.give((self.order.training, self.order.digest), store)
        first = True
        for place in self.writes:
            if not shared.give_result(_digest(place), store.root / place):
                (store.root / place).unlink(missing_ok=True)
                first = False
        return first

    def run(self, worker: Worker) -> Any:
        """Do it."""
        return self.order.run(worker)

    def packed(self, result: Any) -> str:
        """What `run` gave."""
        return json.dumps(result)

    def unpacked(self, text: str, store: Store) -> Any:
        """What `run` gave."""
        said = json.loads(text)
        return tuple(said) if isinstance(said, list) else said


def _places(paths: Sequence[Path]) -> tuple[str, ...]:
    return tuple(path.as_posix() for path in paths)


def _digest(place: str) -> str:
    """What the shared store has a file of the cache under, whose name says all that decides about it."""
    return digest_of(place)


def _fetched(place: str, shared: SharedStore, store: Store) -> bool:
    path = store.root / place
    return path.exists() or shared.fetch_result(_digest(place), path)


@contextmanager
def orders_on(cluster: ClusterAddress, setting: WorkerSetup, reporter: Reporter) -> Iterator[Run]:
    """A function that runs orders on the machines of a cluster, as `worker_pool` has one for processes.

    All compute on the kind of device that this machine would.
    """
    from perfusion_registry.base.device import choose_device
    from perfusion_registry.cluster.pool import ClusterPool

    setting = replace(setting, device=choose_device(setting.device).type)
    store = Store(setting.root)
    folders = tuple(folder for folder in (setting.dino, setting.clip) if folder is not None)
    own = setting.bases[setting.base]
    others = tuple(base for base in setting.bases.values() if base is not own)
    pool = ClusterPool(cluster, store, own, reporter, (*others, *folders))

    yield partial(_run, pool, setting, store)


def _run(
    pool: ClusterPool, setting: WorkerSetup, store: Store, orders: Sequence[T]
) -> Generator[tuple[T, Any]]:
    here, left = Worker(setting, pool.reporter), []
    tasks = [OrderTask.of(order) for order in orders]
    pool.fetch_done(tasks)
    for task in tasks:
        if task.imported or task.done(store):
            yield cast(T, task.order), task.run(here)  # which takes a moment
        else:
            left.append(task)
    if pool.shared is not None:  # what other machines need of what was made here
        for task in left:
            _share(task, pool.shared, store)
    begin = partial(_begin, setting, store)
    with closing(pool.run("Evaluating", begin, left, setting.device, None)) as results:
        for task, result in results:
            yield cast(T, task.order), result


def _begin(setting: WorkerSetup, store: Store, reporter: Reporter) -> Worker:
    """What a machine computes with, in its own store."""
    return Worker(replace(setting, root=store.root), reporter)


def _share(task: OrderTask, shared: SharedStore, store: Store) -> None:
    for place in task.reads:
        if (store.root / place).exists():
            shared.give_result(_digest(place), store.root / place)
    for sha256 in task.artifacts:
        shared.give_artifact(sha256, store)
