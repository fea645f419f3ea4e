"""A caret under the part of a prompt that a message is about."""

from __future__ import annotations

from rich.cells import cell_len

Span = tuple[int, int]

_WIDTH = 88
_ELLIPSIS = "..."


def under(text: str, span: Span, *, label: str = "prompt") -> str:
    """Show `text` on one line with carets under `span` (start, end), for `PerfError(where=...)`.

    A long text is cut to a window around the span, control characters become spaces (a prompt may come
    from a file or an image), and double-width characters get two carets.
    """
    shown = "".join(character if character.isprintable() else " " for character in text)
    start = min(max(span[0], 0), len(shown))
    end = min(max(span[1], start), len(shown))
    left, right = _window(len(shown), start, end)
    before, marked, after = shown[left:start], shown[start : min(end, right)], shown[end:right]
    if left > 0:
        before = _ELLIPSIS + before
    if right < len(shown):
        after += _ELLIPSIS
    carets = "^" * max(1, cell_len(marked))
    return (
        f"{label}, column {start + 1}\n    {before}{marked}{after}".rstrip()
        + f"\n    {' ' * cell_len(before)}{carets}"
    )


def _window(length: int, start: int, end: int) -> Span:
    """Choose which part of a text of `length` characters to show so that `start` and `end` are seen."""
    if length <= _WIDTH:
        return 0, length
    spare = max(0, _WIDTH - (end - start))
    left = max(0, min(start - spare // 2, length - _WIDTH))
    return left, min(length, left + _WIDTH)
