"""Several builds at once: a process for each, and a thread here that passes on what it tells."""

from __future__ import annotations

import multiprocessing
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue

from perfusion_registry.cli.construction import Built, Computing, Machine, carry_out
from perfusion_registry.cli.planning import Survey
from perfusion_registry.errors import PerfError
from perfusion_registry.processes import follow, unheard
from perfusion_registry.reporter import Reporter, Stage
from perfusion_registry.resolve import BuildTask

Outcome = Built | PerfError


def build_at_once(
    found: Survey, tasks: Sequence[BuildTask], computing: Computing, jobs: int, reporter: Reporter
) -> Iterator[Built]:
    """Carry out `tasks` in `jobs` processes, each with a base of its own; yields each as soon as it is done.

    The threads that torch would take are shared out among the processes. What is built when this ends early,
    by an error or because it is closed, stays in the store; the rest resumes where its checkpoint is. Raises
    PerfError when a build fails or its process dies.
    """
    context = multiprocessing.get_context("spawn")
    waiting, outcomes = deque(tasks), SimpleQueue[Outcome]()
    processes: list[BaseProcess] = []
    leads: list[threading.Thread] = []
    count = min(jobs, len(tasks))
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, found, computing, count), daemon=True)
            with unheard():
                process.start()
            processes.append(process)
            theirs.close()  # so that its end is noticed
            leads.append(threading.Thread(target=_lead, args=(ours, waiting, outcomes, reporter)))
            leads[-1].start()
        for _ in tasks:
            outcome = outcomes.get()
            if isinstance(outcome, PerfError):
                raise outcome
            yield outcome
    finally:
        waiting.clear()
        for one in processes:
            one.terminate()  # whatever it was at is kept whole or not at all
        for thread in leads:
            thread.join()
        for one in processes:
            one.join()


def _lead(
    pipe: Connection, waiting: deque[BuildTask], outcomes: SimpleQueue[Outcome], reporter: Reporter
) -> None:
    """Give the process at the other end of `pipe` one task after another."""
    name = ""
    try:
        while waiting:
            try:
                task = waiting.popleft()
            except IndexError:  # another thread was faster
                return
            name = task.name
            pipe.send(task)
            built = _listen(pipe, reporter)
            assert built is not None  # there is no stage to end
            outcomes.put(built)
    except PerfError as error:
        outcomes.put(error)
    except (EOFError, OSError):
        what = f"the process that built `{name}` died, perhaps for want of memory"
        outcomes.put(PerfError(what, hint="run it again with fewer --jobs; it resumes where it was"))
    finally:
        pipe.close()


def _listen(pipe: Connection, reporter: Reporter, stage: Stage | None = None) -> Built | None:
    """Pass on what the other process tells, until its task is built or `stage` has ended.

    Raises the PerfError that ended the build.
    """
    while True:
        told = pipe.recv()
        if isinstance(told, PerfError):
            raise told
        if isinstance(told, Built):
            return told
        event, *values = told
        if event == "stage":
            with reporter.stage(*values) as inner:
                built = _listen(pipe, reporter, inner)
            if built is not None:
                return built
        elif event == "end":
            return None
        elif event == "advance":
            assert stage is not None
            stage.advance(*values)
        else:
            {"note": reporter.note, "warn": reporter.warn}[event](*values)


class _Teller:
    """A reporter whose words come out at the other end of a pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Stage]:
        self._pipe.send(("stage", title, total))
        yield self
        self._pipe.send(("end",))

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._pipe.send(("advance", steps, note))

    def note(self, text: str) -> None:
        self._pipe.send(("note", text))

    def warn(self, text: str) -> None:
        self._pipe.send(("warn", text))


def _work(pipe: Connection, found: Survey, computing: Computing, count: int) -> None:
    """Build whatever comes through the pipe, with one of `count` parts of the threads."""
    follow()
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    reporter = _Teller(pipe)
    machine = Machine(found, computing, reporter)
    while True:
        try:
            task: BuildTask = pipe.recv()
        except EOFError:
            return
        try:
            with found.store.building(task.training, task.name, reporter):
                pipe.send(carry_out(found, task, machine, reporter))
        except PerfError as error:
            pipe.send(error)
            return
