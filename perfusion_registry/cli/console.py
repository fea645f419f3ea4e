"""The terminal: results on stdout, errors on stderr, all text from outside escaped."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from perfusion_registry.amounts import count, duration, size
from perfusion_registry.errors import PerfError
from perfusion_registry.progress import printable, stderr
from perfusion_registry.progress import terminal_reporter as reporter
from perfusion_registry.wrapping import hanging

if TYPE_CHECKING:
    from rich.console import Console

    from perfusion_registry.operations.result import Result

__all__ = [
    "columns",
    "count",
    "duration",
    "printable",
    "reporter",
    "say",
    "say_result",
    "say_table",
    "show_error",
    "show_interrupt",
    "size",
    "stderr",
    "stdout",
]

_PLAIN_WIDTH = 200  # columns of tables where stdout is no terminal


def stdout() -> Console:
    """A rich console on stdout, wide where nobody looks, so that piped tables are not cut."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PLAIN_WIDTH
    return Console(highlight=False, width=width)


def say(text: str) -> None:
    """Print one plain line of the result, which a terminal gets wrapped between words."""
    print(hanging(printable(text), columns()))


def columns() -> int | None:
    """Of the terminal that stdout is; None where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


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


def say_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    styles: Mapping[str, str] | None = None,
    empty: str | None = None,
) -> None:
    """Print a table; the columns named in `right` are aligned to the right.

    styles: how cells with exactly these texts look, where there are colours. empty: what is printed instead
    where there are no rows.
    """
    if not rows and empty is not None:
        say(empty)
        return
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
                print(hanging(f"{column:<{wide}}  {cell}".rstrip(), stdout().width, wide + 2))


def _styled(cell: str, style: str | None) -> str:
    return f"[{style}]{cell}[/]" if style else cell


_MARGIN = 7  # columns, of what an error's lines begin with


def show_error(error: PerfError) -> None:
    """Print an error as a person should read it: what, where, and what to do next."""
    from rich.text import Text

    screen = stderr()
    width = screen.width - _MARGIN if screen.is_terminal else None

    def said(told: str) -> str:
        return hanging(printable(told), width, 0).replace("\n", f"\n{' ' * _MARGIN}" if width else "\n")

    text = Text("error: ", style="bold red")
    text.append(said(_sentence(error.what)), style="default not bold")
    if error.where:
        text.append("\n   at  ", style="cyan").append(said(error.where), style="default not bold")
    if error.hint:
        text.append("\n next  ", style="green").append(said(error.hint), style="default not bold")
    screen.print(text)


def _sentence(what: str) -> str:
    """With a capital letter, unless the first word is no plain word: a file's name or an address is kept, and
    so is perf's own."""
    first = what.partition(" ")[0].rstrip(",:;")
    return what[:1].upper() + what[1:] if first.isalpha() and first != "perf" else what


def show_interrupt(command: str) -> None:
    """Print the one line that follows Ctrl-C."""
    resumes = command in ("build", "covariance", "evaluate")
    more = f"; run the same `perf {command}` again to resume" if resumes else ""
    stderr().print(f"interrupted{more}", style="yellow")
