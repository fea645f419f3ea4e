"""A cluster as operations use it: what `workers.worker_pool` is on one machine."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from perfusion_registry.amounts import count
from perfusion_registry.artifact import Store
from perfusion_registry.base import BaseDescription
from perfusion_registry.cluster.address import LOCAL, ClusterAddress
from perfusion_registry.cluster.connection import connected, require_ray
from perfusion_registry.cluster.driver import Event, drive
from perfusion_registry.cluster.inputs import Packing
from perfusion_registry.cluster.reporting import Overview
from perfusion_registry.cluster.resources import resources_of
from perfusion_registry.cluster.shared_store import SharedStore
from perfusion_registry.cluster.tasks import ClusterTask, Order
from perfusion_registry.errors import PerfError
from perfusion_registry.reporter import Reporter
from perfusion_registry.version import __version__

T = TypeVar("T", bound=ClusterTask[Any])


@dataclass(frozen=True)
class ClusterPool:
    """A cluster to work on. cluster: where. store: this machine's. base: what tasks load. beside: other bases
    and folders that they read."""

    cluster: ClusterAddress
    store: Store
    base: BaseDescription
    reporter: Reporter
    beside: tuple[BaseDescription | Path, ...] = ()

    @property
    def shared(self) -> SharedStore | None:
        """What its machines share; None where one store is all of theirs."""
        address = self.cluster.shared_store
        return None if address is None else SharedStore(address)

    def fetch_done(self, tasks: Sequence[T]) -> None:
        """Bring here what of these tasks is done already, by whomever."""
        shared = self.shared
        if shared is not None:
            for task in tasks:
                task.fetch(shared, self.store)

    def run(
        self,
        title: str,
        begin: Callable[[Reporter], Any],
        tasks: Sequence[T],
        device: str,
        threads: int | None,
    ) -> Generator[tuple[T, Any]]:
        """Do tasks on the cluster, and yield each with its result as soon as it is done.

        title: of all of it. begin: makes what tasks run with, once in each process. device, threads: as
        `resources_of` takes them. When one fails, or the caller stops early, the others are ended;
        checkpoints and what is done stay. Raises the PerfError of a task.
        """
        if not tasks:
            return
        require_ray()
        shared = self.shared
        with (
            Overview(f"{title} on {self.cluster.on}", len(tasks), self.reporter) as picture,
            self._led(begin, tasks, device, threads) as events,
        ):
            for told, outcomes in events:
                picture.show(told)
                for number, outcome in outcomes.items():
                    if outcome.error is not None:
                        raise outcome.error
                    picture.done(number)
                    task = tasks[number]
                    if shared is not None and not task.fetch(shared, self.store):
                        raise PerfError(
                            f"`{task.title}` is done, and the shared store has nothing of it",
                            where=shared.address,
                            hint="do all machines see the same folder there?",
                        )
                    yield task, task.unpacked(outcome.result or "", self.store)

    @contextmanager
    def _led(
        self, begin: Callable[[Reporter], Any], tasks: Sequence[T], device: str, threads: int | None
    ) -> Iterator[Generator[Event]]:
        """The events of the work, led from here or by a job."""
        with self.reporter.stage(f"Sharing {count(len(tasks), 'task')}"):
            packing = Packing(self.shared, self.store, [self.base, *self.beside])
            packed = packing.pack(begin), tuple((task.title, packing.pack(task)) for task in tasks)
        order = Order(
            *packed,
            resources_of(self.base, device, threads, gpus_there=False),
            resources_of(self.base, device, threads, gpus_there=True),
            self.cluster.shared_store,
            __version__,
        )
        if self.cluster.takes_jobs:
            from perfusion_registry.cluster.jobs import sent

            with sent(self.cluster, order) as events:
                yield events
            return
        with (
            connected(self.cluster.on) as ray,
            closing(drive(ray, order, local=self.cluster.on == LOCAL)) as events,
        ):
            yield events
