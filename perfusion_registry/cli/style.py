"""The colours of help, for which no library is imported."""

from __future__ import annotations

import os
import sys

RATINGS = {"good": "green", "fair": "yellow", "poor": "red"}
"""How ratings of verdicts look, by rich's names."""
_HEADING = "\x1b[1;32m"
_TERM = "\x1b[1;36m"
_PLAIN = "\x1b[0m"


def styled() -> bool:
    """Whether stdout is a terminal that shows colours, and whose user has not said NO_COLOR."""
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain


def heading(text: str, *, styled: bool) -> str:
    """The title of a part of help."""
    return f"{_HEADING}{text}{_PLAIN}" if styled else text


def term(text: str, *, styled: bool) -> str:
    """A command, an option or an argument that help explains."""
    return f"{_TERM}{text}{_PLAIN}" if styled else text


def rated(text: str, *, styled: bool) -> str:
    """A text whose first word before a colon may be a rating."""
    word, colon, rest = text.partition(":")
    if not (styled and colon and word in RATINGS):
        return text
    from rich.style import Style

    return f"{Style.parse(RATINGS[word]).render(word)}:{rest}"
