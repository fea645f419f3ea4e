"""The terminal: results on stdout, progress and errors on stderr, all text from outside escaped."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from perfusion_registry.errors import PerfError
from perfusion_registry.reporter import Reporter, Stage

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from perfusion_registry.operations.result import Result

_LINE_EVERY = 10.0  # seconds between progress lines where stderr is no terminal
_WORTH_A_LINE = 1.0  # seconds after which a finished stage leaves a line
_PLAIN_WIDTH = 200  # columns of tables where stdout is no terminal


def stderr() -> Console:
    """A rich console on stderr; NO_COLOR and dumb terminals are honoured."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def stdout() -> Console:
    """A rich console on stdout, wide where nobody looks, so that piped tables are not cut."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PLAIN_WIDTH
    return Console(highlight=False, width=width)


def say(text: str) -> None:
    """Print one plain line of the result."""
    print(printable(text))


def say_result(result: Result) -> None:
    """Print the result of an operation as JSON.

    Characters that could steer the terminal are escaped, as JSON escapes them.
    """
    text = json.dumps(result.printed(), indent=2, ensure_ascii=False)
    # Outside of strings all is printable but the line ends; inside, JSON has its own escapes.
    print("".join(c if c == "\n" or _shown(c) else json.dumps(c)[1:-1] for c in text))


def _shown(character: str) -> bool:
    """Whether a character can be printed as it is: it steers no terminal, and stdout's encoding has it."""
    if not character.isprintable():
        return False
    try:
        character.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def count(number: int, noun: str) -> str:
    """`1 concept`, `2 concepts`."""
    return f"1 {noun}" if number == 1 else f"{number:,} {noun}s"


def say_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    styles: Mapping[str, str] | None = None,
) -> None:
    """Print a table; the columns named in `right` are aligned to the right.

    styles: how cells with exactly these texts look, where there are colours.
    """
    from rich.cells import cell_len
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    rows = [[printable(cell) for cell in row] for row in rows]
    screen, flexible = stdout(), _flexible(columns, rows)
    for number, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if column in right else "left"
        table.add_column(
            column, justify=justify, overflow="fold", no_wrap=screen.is_terminal and number != flexible
        )
    for row in rows:
        table.add_row(*(_styled(escape(cell), (styles or {}).get(cell)) for cell in row))
    if screen.is_terminal:
        widths = [max(cell_len(cell) for cell in cells) for cells in zip(columns, *rows, strict=True)]
        words = [cell_len(word) for row in rows for word in row[flexible].split()] or [0]
        if sum(widths) - widths[flexible] + max(words) + 2 * len(widths) > screen.width:
            _say_records(columns, rows)  # the terminal wraps what no line has room for, and cuts nothing
        else:
            screen.print(table)
        return
    with screen.capture() as captured:
        screen.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())  # what fills up the last column is nothing to a program


def _flexible(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """The column that is wrapped between words where a table is too wide: that of the longest sentence."""

    def longest(number: int) -> int:
        return max((len(row[number]) for row in rows if " " in row[number].strip()), default=0)

    return max(range(len(columns)), key=lambda number: (longest(number), number))


def _say_records(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print each row as lines of its own, for a terminal with no room for the table."""
    wide = max(map(len, columns))
    for number, row in enumerate(rows):
        if number:
            print()
        for column, cell in zip(columns, row, strict=True):
            if cell:
                print(f"{column:<{wide}}  {cell}".rstrip())


def _styled(cell: str, style: str | None) -> str:
    return f"[{style}]{cell}[/]" if style else cell


def show_error(error: PerfError) -> None:
    """Print an error as a person should read it: what, where, and what to do next."""
    from rich.text import Text

    text = Text("error: ", style="bold red")
    what = error.what
    text.append(printable(what[:1].upper() + what[1:]), style="default not bold")
    if error.where:
        text.append("\n   at  ", style="cyan").append(printable(error.where), style="default not bold")
    if error.hint:
        text.append("\n next  ", style="green").append(printable(error.hint), style="default not bold")
    stderr().print(text)


def show_interrupt(resumable: str | None) -> None:
    """Print the one line that follows Ctrl-C; `resumable` is the command that goes on where it was."""
    more = f"; run the same `perf {resumable}` again to resume" if resumable else ""
    stderr().print(f"interrupted{more}", style="yellow")


def duration(seconds: float) -> str:
    """A length of time for people: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: int) -> str:
    """A number of bytes for people: `512 B`, `34.2 KB`, `4.7 MB` (thousands)."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} KB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def reporter(quiet: bool = False) -> Reporter:
    """The reporter for this run: bars on a terminal, occasional lines elsewhere, warnings only if `quiet`."""
    if quiet:
        return _Quiet()
    return _Bars() if stderr().is_terminal else _Lines()


class _Quiet:
    """Only what a person should not miss."""

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Stage]:
        yield _Count(title, total)

    def note(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        from rich.text import Text

        line = Text("warning: ", style="bold yellow").append(printable(text), style="default not bold")
        self._console().print(line)

    def _console(self) -> Console:
        return stderr()


class _Count:
    """A stage that only counts."""

    def __init__(self, title: str, total: int | None) -> None:
        self.title = title
        self.total = total
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

    def __init__(self, title: str, total: int | None) -> None:
        super().__init__(title, total)
        self.told = self.begun

    def advance(self, steps: int = 1, note: str = "") -> None:
        super().advance(steps, note)
        if time.monotonic() - self.told < _LINE_EVERY:
            return
        self.told = time.monotonic()
        parts = [f"{self.done}" if self.total is None else f"{self.done}/{self.total}"]
        if self.total and self.done:
            left = self.elapsed * max(self.total - self.done, 0) / self.done
            parts = [f"{100 * self.done / self.total:.0f} %", f"about {duration(left)} left"]
        if self.note:
            parts.append(self.note)
        _line(f"{self.title}: {', '.join(parts)}")


class _Lines(_Quiet):
    """Plain lines, for logs and pipes."""

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Stage]:
        _line(f"{title} ...")
        count = _LineCount(title, total)
        yield count
        if count.elapsed >= _WORTH_A_LINE:
            _line(f"{title}: done in {duration(count.elapsed)}")

    def note(self, text: str) -> None:
        _line(text)


class _BarCount(_Count):
    """A stage drawn as a bar."""

    def __init__(self, title: str, total: int | None, progress: Progress, task: TaskID) -> None:
        super().__init__(title, total)
        self._progress = progress
        self._task = task

    def advance(self, steps: int = 1, note: str = "") -> None:
        from rich.markup import escape

        super().advance(steps, note)
        self._progress.update(self._task, advance=steps, note=escape(printable(self.note)))


class _Bars(_Quiet):
    """Bars on a terminal; stages inside stages, and those of several threads, are drawn together."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._open = 0  # stages
        self._lock = threading.Lock()
        self._here = threading.local()

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Stage]:
        from rich.markup import escape

        with self._lock:
            progress = self._progress or self._begin()
            self._open += 1
        depth = getattr(self._here, "depth", 0)
        self._here.depth = depth + 1
        indent = "  " * depth
        task = progress.add_task(indent + escape(printable(title)), total=total, note="")
        count = _BarCount(title, total, progress, task)
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
        self._console().print(printable(text), markup=False)

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
        from rich.text import Text

        class Time(ProgressColumn):
            """How long the stage will take; how long it has taken, while nobody can tell."""

            max_refresh = 0.5

            def render(self, task: Task) -> Text:
                left = task.time_remaining
                told = duration(task.elapsed or 0) if left is None else f"{duration(left)} left"
                return Text(told, style="cyan", justify="right")

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            Time(),
            TextColumn("[dim]{task.fields[note]}[/]"),
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
