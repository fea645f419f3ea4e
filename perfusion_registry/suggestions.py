"""The names that a mistyped one may have meant, for errors."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

_SHOWN = 12  # words of a list that is longer


def closest(word: str, known: Iterable[str], *, most: int = 1, least: float = 0.6) -> list[str]:
    """Up to `most` of the known words that are spelt like `word`, whatever its case, the most similar first.

    least: none is returned that shares less of its letters (difflib's ratio).
    """
    folded: dict[str, str] = {}
    for name in known:
        folded.setdefault(name.lower(), name)
    return [folded[match] for match in difflib.get_close_matches(word.lower(), folded, most, cutoff=least)]


def did_you_mean(
    word: str, known: Iterable[str], otherwise: str, *, form: str = "`{}`", most: int = 1
) -> str:
    """The end of a hint or an error: `did you mean x?`, or `otherwise` where nothing known is similar.

    form: how a name is written, with `{}` for it. most: names to offer.
    """
    near = closest(word, known, most=most)
    return f"did you mean {' or '.join(form.format(name) for name in near)}?" if near else otherwise


def listed(words: Sequence[str]) -> str:
    """Words, of many the first dozen."""
    more = len(words) - _SHOWN
    return ", ".join(words) if more < 2 else f"{', '.join(words[:_SHOWN])} and {more} things more"
