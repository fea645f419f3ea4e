"""The processes that carry an evaluation's orders out."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.machine import Machine, Setting
from perfusion_registry.processes import follow, unheard
from perfusion_registry.reporter import Reporter


class Order(Protocol):
    """A piece of work that a process can carry out by itself."""

    @property
    def title(self) -> str:
        """What to call it while it runs."""

    def carry_out(self, machine: Machine) -> Any:
        """Do it; what it answers is small."""


CarryOut = Callable[[Sequence[Order]], Iterator[tuple[Order, Any]]]
"""Carries out orders, and yields each with its answer as soon as it is done."""


@contextmanager
def crew(setting: Setting, jobs: int, reporter: Reporter) -> Iterator[CarryOut]:
    """A function that carries out orders, in this process or in `jobs` others, and yields each with its
    answer as soon as it is done. Raises PerfError when a process dies."""
    if jobs == 1:
        machine = Machine(setting, reporter)

        def here(orders: Sequence[Order]) -> Iterator[tuple[Order, Any]]:
            for order in orders:
                yield order, order.carry_out(machine)

        yield here
        return
    context = multiprocessing.get_context("spawn")
    shared = replace(setting, share=jobs)
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(shared,))

    def there(orders: Sequence[Order]) -> Iterator[tuple[Order, Any]]:
        with unheard():  # the first orders start the processes
            waiting: dict[Future[Any], Order] = {pool.submit(_work, order): order for order in orders}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BrokenProcessPool as error:
            raise PerfError(
                "a process of the evaluation died, perhaps for want of memory",
                hint="run it again with fewer --jobs; what is done stays done",
            ) from error

    try:
        yield there
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()  # whatever it was at is kept whole or not at all
        raise
    pool.shutdown()


_machine: list[Machine] = []
"""The machine of a process of the crew; a process has no other place for it."""


def _begin(setting: Setting) -> None:
    follow()
    _machine[:] = [Machine(setting)]


def _work(order: Order) -> Any:
    return order.carry_out(_machine[0])
