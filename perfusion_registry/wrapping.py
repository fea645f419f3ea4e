"""Lines of a terminal: wrapped between words, and never within a command that somebody will copy."""

from __future__ import annotations

import re
from collections.abc import Iterator

_PIECE = re.compile(r"\(?`[^`]*`\S*|perf [^`]*$|\S+")
"""What stays together: a command in backquotes, a command up to the end of its line, a word."""
_LEAST = 20  # columns, below which no terminal is worth wrapping for


def wrapped(text: str, room: int | None) -> Iterator[str]:
    """One line of text, without control characters, as lines of at most `room` columns, but for pieces that
    are longer: they stay whole. None: as it is."""
    from rich.cells import cell_len

    if room is None or cell_len(text) <= room:
        yield text
        return
    line = ""
    for piece in _PIECE.findall(text):
        if line and cell_len(f"{line} {piece}") > room:
            yield line
            line = piece
        else:
            line = f"{line} {piece}" if line else piece
    yield line


def hanging(text: str, width: int | None, indent: int = 2) -> str:
    """Lines of text for a terminal of `width` columns, that go on `indent` columns to the right of where each
    begins; None for no terminal."""
    if width is None:
        return text
    lines = []
    for line in text.split("\n"):
        margin = " " * (len(line) - len(line.lstrip(" ")))
        room = max(width - len(margin) - indent, _LEAST)
        fits = len(line) <= width and line.isascii()
        parts = [line.strip(" ")] if fits else wrapped(line.strip(" "), room)
        lines.append(margin + f"\n{margin}{' ' * indent}".join(parts))
    return "\n".join(lines)
