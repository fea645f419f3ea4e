"""A farm as operations use it: what `workers.worker_pool` is on one machine."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from perfusion_registry.amounts import count
from perfusion_registry.artifact import Store
from perfusion_registry.base import BaseDescription
from perfusion_registry.errors import PerfError
from perfusion_registry.farm.board import Overview
from perfusion_registry.farm.cluster import connected, require_ray
from perfusion_registry.farm.driving import Event, lead
from perfusion_registry.farm.needs import needs_of
from perfusion_registry.farm.parcels import Packing
from perfusion_registry.farm.place import LOCAL, FarmPlace
from perfusion_registry.farm.shared_store import SharedStore
from perfusion_registry.farm.tasks import FarmTask, Order
from perfusion_registry.reporter import Reporter
from perfusion_registry.version import __version__

T = TypeVar("T", bound=FarmTask[Any])


@dataclass(frozen=True)
class Farm:
    """A cluster to work on. place: where. store: this machine's. base: what tasks load."""

    place: FarmPlace
    store: Store
    base: BaseDescription
    reporter: Reporter

    @property
    def shared(self) -> SharedStore | None:
        """What its machines share; None where one store is all of theirs."""
        address = self.place.shared_store
        return None if address is None else SharedStore(address)

    def fetch_done(self, tasks: Sequence[T]) -> None:
        """Bring here what of these tasks is done already, by whomever."""
        shared = self.shared
        if shared is not None:
            for task in tasks:
                shared.fetch(task.digests, self.store)

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
        `needs_of` takes them. When one fails, or the caller stops early, the others are ended; checkpoints
        and what is done stay. Raises the PerfError of a task.
        """
        if not tasks:
            return
        require_ray()
        shared = self.shared
        with (
            Overview(f"{title} on {self.place.on}", len(tasks), self.reporter) as picture,
            self._led(begin, tasks, device, threads) as events,
        ):
            for told, outcomes in events:
                picture.show(told)
                for number, outcome in outcomes.items():
                    if outcome.error is not None:
                        raise outcome.error
                    picture.done(number)
                    task = tasks[number]
                    if shared is not None and not shared.fetch(task.digests, self.store):
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
            packing = Packing(self.shared, self.store, [self.base])
            packed = packing.pack(begin), tuple((task.title, packing.pack(task)) for task in tasks)
        needs, with_gpus = (needs_of(self.base, device, threads, gpus_there=there) for there in (False, True))
        order = Order(*packed, needs, with_gpus, self.place.shared_store, __version__)
        if self.place.takes_jobs:
            from perfusion_registry.farm.jobs import sent

            with sent(self.place, order) as events:
                yield events
            return
        with (
            connected(self.place.on) as ray,
            closing(lead(ray, order, local=self.place.on == LOCAL)) as events,
        ):
            yield events
