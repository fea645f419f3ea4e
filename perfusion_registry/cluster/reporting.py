"""What machines tell of their tasks, collected in one place, and the one picture that is made of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from perfusion_registry.reporter import Reporter, Stage

EVERY = 0.5
"""Seconds between what a machine tells of steps, and between looks at what all have told."""

Told = tuple[Any, ...]
"""Something that a task told: its number, and `begin` with the machine, or `at`, `note` or `warn` with a
text."""


class MessageQueue:
    """Keeps what is told until somebody takes it; a Ray actor beside who leads the work."""

    def __init__(self) -> None:
        self._told: list[Told] = []

    def tell(self, told: Told) -> None:
        """One thing more."""
        self._told.append(told)

    def take(self) -> list[Told]:
        """All that was told since the last time."""
        told, self._told = self._told, []
        return told


class NodeReporter:
    """The reporter of a task on another machine. It outlives tasks, as the models that it was given to do."""

    def __init__(self) -> None:
        self._queue: Any = None
        self._number = 0
        self._stages: list[_NodeStage] = []
        self._last = 0.0

    def begin(self, queue: Any, number: int, machine: str) -> None:
        """From now on it tells of the task of this number."""
        self._queue, self._number, self._stages = queue, number, []
        self._tell("begin", machine)

    @contextmanager
    def stage(self, title: str, total: int | None = None, then: float = 0.0) -> Iterator[Stage]:
        """Open a stage, told by its title and how far it is."""
        stage = _NodeStage(self, title, total)
        self._stages.append(stage)
        self.moved(at_once=True)
        yield stage
        if stage in self._stages:
            self._stages.remove(stage)

    def moved(self, *, at_once: bool = False) -> None:
        """Tell how far the innermost stage is, now and then."""
        if self._stages and (at_once or time.monotonic() - self._last > EVERY):
            self._last = time.monotonic()
            self._tell("at", self._stages[-1].told)

    def note(self, text: str) -> None:
        """Say one line."""
        self._tell("note", text)

    def warn(self, text: str) -> None:
        """Say one line that a person should not miss."""
        self._tell("warn", text)

    def _tell(self, *told: Any) -> None:
        self._queue.tell.remote((self._number, *told))


class _NodeStage:
    """A stage that counts."""

    def __init__(self, reporter: NodeReporter, title: str, total: int | None) -> None:
        self._reporter, self._title, self._total = reporter, title, total
        self._done = 0

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._done += steps
        self._reporter.moved()

    @property
    def told(self) -> str:
        return f"{self._title} {self._done}/{self._total}" if self._total else self._title


class Overview:
    """All the work as one stage, and each machine as one: what it has done, and what its tasks are at."""

    def __init__(self, title: str, total: int, reporter: Reporter) -> None:
        self._reporter = reporter
        self._stages = ExitStack()
        self._whole = self._open(title, total)
        self._machines: dict[str, Stage] = {}
        self._running: dict[int, tuple[str, str]] = {}

    def __enter__(self) -> Overview:
        return self

    def __exit__(self, *error: object) -> None:
        self._stages.close()

    def show(self, told: Sequence[Told]) -> None:
        """What was told since the last time."""
        changed = set()
        for number, what, text in told:
            if what == "begin":
                changed.add(self._running.get(number, (text, ""))[0])
                self._running[number] = text, ""
            elif what == "at" and number in self._running:
                self._running[number] = self._running[number][0], text
            elif what == "note":
                self._reporter.note(text)
            elif what == "warn":
                self._reporter.warn(text)
            if number in self._running:
                changed.add(self._running[number][0])
        for machine in sorted(changed):
            self._machine(machine).advance(0, self._at(machine))

    def done(self, number: int) -> None:
        """A task is done."""
        self._whole.advance(1)
        if number in self._running:
            machine, _ = self._running.pop(number)
            self._machine(machine).advance(1, self._at(machine))

    def _at(self, machine: str) -> str:
        return "; ".join(at for where, at in self._running.values() if where == machine and at) or "waiting"

    def _machine(self, name: str) -> Stage:
        if name not in self._machines:
            self._machines[name] = self._open(name, None)
        return self._machines[name]

    def _open(self, title: str, total: int | None) -> Stage:
        """A stage beside the others: stages of one thread would be drawn one inside the other."""
        opened: list[Stage] = []

        def enter() -> None:
            opened.append(self._stages.enter_context(self._reporter.stage(title, total)))

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        return opened[0]
