"""A pool of worker processes: each loads its models once, takes task after task, and reports through a pipe.

What such processes owe the one that started them: not to answer its Ctrl-C, and to end with it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from perfusion_registry.errors import PerfError
from perfusion_registry.memory import REFUSED, short_of_memory
from perfusion_registry.reporter import Reporter, Stage

W = TypeVar("W", contravariant=True)
T = TypeVar("T", bound="Task[Any]")


class Task(Protocol[W]):
    """A piece of work that a process does by itself; it travels there by pickle, and its result back."""

    @property
    def title(self) -> str:
        """What to call it while it runs."""

    def run(self, worker: W) -> Any:
        """Do it with what the process has loaded. Raises PerfError where it cannot be done."""


class Run(Protocol):
    """Runs tasks, and yields each with its result as soon as it is done."""

    def __call__(self, tasks: Sequence[T]) -> Generator[tuple[T, Any]]:
        """Run these tasks; may be called again when all are done."""


def _context(preload: Sequence[str]) -> ForkServerContext | SpawnContext:
    """How processes begin: on Linux as forks of one that has imported `preload`, and done nothing else;
    elsewhere each as a Python of its own."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context


@contextmanager
def worker_pool(
    begin: Callable[[Reporter], Any], jobs: int, reporter: Reporter, *, preload: Sequence[str] = ("torch",)
) -> Iterator[Run]:
    """A function that runs tasks in this process (`jobs` is 1) or in `jobs` others.

    begin: makes what tasks run with, once in each process; it travels by pickle. preload: modules that take
    seconds to import and that every process wants; importing them does and says nothing else. The processes
    start with the first tasks and share out the threads that torch would take. When one task fails, or the
    caller stops early, the others are ended where they are: what they keep, they keep whole or not at all.
    Raises the PerfError of a task, or one where a process dies.
    """
    if jobs == 1:
        worker = begin(reporter)

        def run_here(tasks: Sequence[T]) -> Generator[tuple[T, Any]]:
            for task in tasks:
                yield task, task.run(worker)

        yield run_here
        return
    workers: list[_Worker] = []

    def run_there(tasks: Sequence[T]) -> Generator[tuple[T, Any]]:
        if tasks and not workers:
            workers.extend(_Worker.start(begin, jobs, preload) for _ in range(jobs))
        yield from _spread(tasks, workers, reporter)

    try:
        yield run_there
    finally:
        for each in workers:
            each.process.terminate()
        for each in workers:
            each.process.join()
            each.pipe.close()


@dataclass(frozen=True)
class _Worker:
    """A process and this end of the pipe to it."""

    process: BaseProcess
    pipe: Connection

    @classmethod
    def start(cls, begin: Callable[[Reporter], Any], share: int, preload: Sequence[str]) -> _Worker:
        context = _context(preload)
        ours, theirs = context.Pipe()
        arguments = theirs, begin, share, dict(os.environ)
        process = context.Process(target=_work, args=arguments, daemon=True)
        with block_sigint():
            process.start()
        theirs.close()  # so that its end is noticed
        return cls(process, ours)


def _spread(tasks: Sequence[T], workers: Sequence[_Worker], reporter: Reporter) -> Generator[tuple[T, Any]]:
    """Give the processes one task after another until all are done."""
    waiting, outcomes = deque(tasks), SimpleQueue[Any]()
    threads = [
        threading.Thread(target=_lead, args=(each.pipe, waiting, outcomes, reporter)) for each in workers
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in tasks:
            outcome = outcomes.get()
            if isinstance(outcome, PerfError):
                raise outcome
            yield outcome
    except BaseException:
        waiting.clear()
        for each in workers:
            each.process.terminate()
        raise
    finally:
        for thread in threads:
            thread.join()


def _lead(pipe: Connection, waiting: deque[Any], outcomes: SimpleQueue[Any], reporter: Reporter) -> None:
    """Give the process at the other end of `pipe` what is waiting; this is a thread."""
    title = ""
    try:
        while waiting:
            try:
                task = waiting.popleft()
            except IndexError:  # another thread was faster
                return
            title = task.title
            pipe.send(task)
            done = _listen(pipe, reporter)
            assert done is not None  # there is no stage to end
            outcomes.put((task, done.result))
    except PerfError as error:
        outcomes.put(error)
    except (EOFError, OSError):
        what = f"the process that worked on `{title}` died; perhaps it ran out of memory"
        hint = "run it again with fewer --jobs; what is done stays done"
        outcomes.put(PerfError(what, hint=hint))


@dataclass(frozen=True)
class _Done:
    """What a worker sends when a task is done."""

    result: Any


def _listen(pipe: Connection, reporter: Reporter, stage: Stage | None = None) -> _Done | None:
    """Pass on what the other process reports, until its task is done or `stage` has ended.

    Raises the PerfError that ended the task.
    """
    while True:
        message = pipe.recv()
        if isinstance(message, PerfError):
            raise message
        if isinstance(message, _Done):
            return message
        event, *values = message
        if event == "stage":
            with reporter.stage(*values) as inner:
                done = _listen(pipe, reporter, inner)
            if done is not None:
                return done
        elif event == "end":
            return None
        elif event == "advance":
            assert stage is not None
            stage.advance(*values)
        else:
            {"note": reporter.note, "warn": reporter.warn}[event](*values)


class WorkerReporter:
    """A reporter whose words come out at the other end of a pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    @contextmanager
    def stage(self, title: str, total: int | None = None, then: float = 0.0) -> Iterator[Stage]:
        """Open a stage there."""
        self._pipe.send(("stage", title, total, then))
        yield self
        self._pipe.send(("end",))

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count steps of the innermost stage."""
        self._pipe.send(("advance", steps, note))

    def note(self, text: str) -> None:
        """Say one line."""
        self._pipe.send(("note", text))

    def warn(self, text: str) -> None:
        """Say one line that a person should not miss."""
        self._pipe.send(("warn", text))


def _work(
    pipe: Connection, begin: Callable[[Reporter], Any], share: int, environment: Mapping[str, str]
) -> None:
    """Run whatever comes through the pipe, with one of `share` parts of the threads; this is the process."""
    exit_with_parent()
    os.environ.clear()  # a fork server keeps the variables that there were when it began
    os.environ.update(environment)
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // share))
    failed: PerfError | None = None
    try:
        worker = begin(WorkerReporter(pipe))
    except (PerfError, *REFUSED) as error:
        failed = _known(error)  # the answer to whatever is asked of this process
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        if failed is not None:
            pipe.send(failed)
            continue
        try:
            pipe.send(_Done(task.run(worker)))
        except (PerfError, *REFUSED) as error:
            pipe.send(_known(error))


def _known(error: Exception) -> PerfError:
    """What is wrong, for a person; an error of which nothing is known ends the process."""
    known = error if isinstance(error, PerfError) else short_of_memory(error)
    if known is None:
        raise error
    return known


@contextmanager
def block_sigint() -> Iterator[None]:
    """Processes that are started inside never get Ctrl-C, from their first moment on.

    A terminal tells it to all; only the one that started them is to answer, if need be after this.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # else it starts on the way, and unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def exit_with_parent() -> None:
    """Ignore Ctrl-C, and end with the process that started this one, however that ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where `block_sigint` can do nothing
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
