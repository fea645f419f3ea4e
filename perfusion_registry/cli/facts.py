"""What a concept says of itself, a label and a text a line."""

from __future__ import annotations

from collections.abc import Mapping

from perfusion_registry.cli import console
from perfusion_registry.cli.style import rated, styled
from perfusion_registry.wrapping import wrapped

_LABELS = 13
"""Columns of a label: behind it, a SHA-256 has room in a terminal of 80 columns."""
_INDENT = " " * (_LABELS + 3)


def say_facts(facts: Mapping[str, str | None]) -> None:
    """Print what is said, by its label; without those that say nothing.

    A terminal gets it wrapped between words, and no word and no hash is broken. A line break in a text begins
    a line under its text, so that what others wrote never passes for a line of perf's own.
    """
    screen = console.stdout()
    room = screen.width - len(_INDENT) if screen.is_terminal else None
    for label, text in facts.items():
        lines = [
            line for part in (text or "").splitlines() for line in wrapped(console.printable(part), room)
        ]
        for number, line in enumerate(lines):
            shown = line if number else rated(line, styled=styled())
            print(f"{_INDENT}{line}" if number else f"  {label:<{_LABELS}} {shown}")
