"""Progress on a terminal: bars where somebody looks, lines elsewhere; all text from outside escaped."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from perfusion_registry.amounts import duration
from perfusion_registry.reporter import Reporter, Stage
from perfusion_registry.wrapping import hanging

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_LINE_EVERY = 10.0  # seconds between progress lines where stderr is no terminal
_WORTH_A_LINE = 1.0  # seconds after which a finished stage leaves a line


def terminal_reporter(quiet: bool = False) -> Reporter:
    """A reporter that tells on stderr: bars on a terminal, occasional lines elsewhere; warnings only if
    `quiet`."""
    if quiet:
        return _Quiet()
    return _Bars() if stderr().is_terminal else _Lines()


def stderr() -> Console:
    """A rich console on stderr; NO_COLOR and dumb terminals are honoured."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


class _Quiet:
    """Only what a person should not miss."""

    @contextmanager
    def stage(self, title: str, total: int | None = None, then: float = 0.0) -> Iterator[Stage]:
        yield _Count(title, total)

    def note(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        from rich.text import Text

        screen = self._console()
        told = hanging(f"warning: {printable(text)}", screen.width if screen.is_terminal else None)
        label, _, rest = told.partition(" ")
        screen.print(Text(f"{label} ", style="bold yellow").append(rest, style="default not bold"))

    def _console(self) -> Console:
        return stderr()


class _Count:
    """A stage that only counts."""

    def __init__(self, title: str, total: int | None, then: float = 0.0) -> None:
        self.title = title
        self.total = total
        self.then = then
        self.done = 0
        self.note = ""
        self.begun = time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps
        self.note = note or self.note

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.begun


class _LineCount(_Count):
    """A stage told in a line every few seconds."""

    def __init__(self, title: str, total: int | None, then: float) -> None:
        super().__init__(title, total, then)
        self.told = self.begun
        self._first: tuple[float, int] | None = None  # when, and how much: it may be another process's work

    def advance(self, steps: int = 1, note: str = "") -> None:
        super().advance(steps, note)
        now = time.monotonic()
        self._first = self._first or (now, self.done)
        if now - self.told < _LINE_EVERY:
            return
        self.told = now
        parts = [f"{self.done}" if self.total is None else f"{self.done}/{self.total}"]
        if self.total and self.done:
            parts = [f"{100 * self.done / self.total:.0f} %"]
            since, before = self._first
            if self.done > before:
                left = max(self.total - self.done, 0) + self.then
                in_all = " in all" if self.then else ""
                parts.append(f"about {duration((now - since) / (self.done - before) * left)} left{in_all}")
        if self.note:
            parts.append(self.note)
        _line(f"{self.title}: {', '.join(parts)}")


class _Lines(_Quiet):
    """Plain lines, for logs and pipes."""

    @contextmanager
    def stage(self, title: str, total: int | None = None, then: float = 0.0) -> Iterator[Stage]:
        _line(f"{title} ...")
        count = _LineCount(title, total, then)
        yield count
        if count.elapsed >= _WORTH_A_LINE:
            _line(f"{title}: done in {duration(count.elapsed)}")

    def note(self, text: str) -> None:
        _line(text)


class _BarCount(_Count):
    """A stage drawn as a bar."""

    def __init__(self, title: str, total: int | None, then: float, progress: Progress, task: TaskID) -> None:
        super().__init__(title, total, then)
        self._progress = progress
        self._task = task

    def advance(self, steps: int = 1, note: str = "") -> None:
        super().advance(steps, note)
        self._progress.update(self._task, advance=steps, note=printable(self.note))


class _Bars(_Quiet):
    """Bars on a terminal; stages inside stages, and those of several threads, are drawn together."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._open = 0  # stages
        self._lock = threading.Lock()
        self._here = threading.local()

    @contextmanager
    def stage(self, title: str, total: int | None = None, then: float = 0.0) -> Iterator[Stage]:
        from rich.markup import escape

        with self._lock:
            progress = self._progress or self._begin()
            self._open += 1
        depth = getattr(self._here, "depth", 0)
        self._here.depth = depth + 1
        indent = "  " * depth
        task = progress.add_task(indent + escape(printable(title)), total=total, note="", then=then)
        count = _BarCount(title, total, then, progress, task)
        try:
            yield count
            progress.remove_task(task)
            if count.elapsed >= _WORTH_A_LINE:
                told = f"[green]✓[/] {indent}{escape(printable(title))} [dim]{duration(count.elapsed)}[/]"
                progress.console.print(told)
        finally:
            self._here.depth = depth
            with self._lock:
                self._open -= 1
                if self._open == 0:
                    self._progress = None
                    progress.stop()

    def note(self, text: str) -> None:
        screen = self._console()
        screen.print(hanging(printable(text), screen.width), markup=False)

    def _console(self) -> Console:
        return self._progress.console if self._progress else stderr()

    def _begin(self) -> Progress:
        from rich.progress import (
            BarColumn,
            Progress,
            ProgressColumn,
            SpinnerColumn,
            Task,
            TaskProgressColumn,
            TextColumn,
        )
        from rich.table import Column
        from rich.text import Text

        class Note(ProgressColumn):
            """What is being done, of which a narrow terminal shows the beginning."""

            def render(self, task: Task) -> Text:
                return Text(task.fields["note"], style="dim", no_wrap=True, overflow="ellipsis")

        class Time(ProgressColumn):
            """How long the stage will take; how long it has taken, while nobody can tell."""

            max_refresh = 0.5

            def render(self, task: Task) -> Text:
                left, then = task.time_remaining, task.fields["then"]
                if left is not None and then and task.speed:
                    left += then / task.speed
                in_all = " in all" if then else ""
                told = duration(task.elapsed or 0) if left is None else f"{duration(left)} left{in_all}"
                return Text(told, style="cyan", justify="right")

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            Time(Column(no_wrap=True)),
            Note(),
            console=stderr(),
            transient=True,
        )
        self._progress.start()
        return self._progress


def _line(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Text without control characters: what a registry or a file says must not steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)
