"""Whether a supercategory is a thing that a base knows, by a word that is one token of its text encoder."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.base.bounds import BaseBounds
from perfusion_registry.errors import PerfError
from perfusion_registry.suggestions import closest, listed

if TYPE_CHECKING:
    from perfusion_registry.base import BaseDescription

_END = "</w>"


def nouns_drawn(base: BaseDescription) -> tuple[str, ...]:
    """What a base of few words draws; of others nobody has a list."""
    return BaseBounds.of(base).things


def check_supercategory(base: BaseDescription, word: str) -> None:
    """Raise PerfError for a word that a base's vocabulary does not have: most often it is misspelt; and for
    no thing that it draws (`check_drawn`).

    Several words ("teddy bear") pass where each is known; a build says what becomes of them. Reads the
    vocabulary only, without loading a tokenizer; a folder without one in CLIP's format passes, and the build
    will judge.
    """
    vocabulary, drawn = _vocabulary(base.folder / "tokenizer"), nouns_drawn(base)
    parts = _parts(word)
    if not vocabulary or all(part + _END in vocabulary for part in parts):
        check_drawn(base, word, "--super")
        return
    words = [token.removesuffix(_END) for token in vocabulary if token.endswith(_END)]
    inside = [part for part in parts if part + _END in vocabulary and (not drawn or part in drawn)]
    raise PerfError(
        f"the supercategory `{word}` {_unread(parts, vocabulary)}",
        where="--super",
        hint=_instead(word, inside[-1:], drawn or [known for known in words if known.isalpha()], drawn),
    )


def check_drawn(base: BaseDescription, word: str, where: str) -> None:
    """Raise PerfError for a supercategory that is no thing to a base that draws few of them, although its
    vocabulary has the word. Capitals do not matter, as they do not to its tokenizer. where: who says it."""
    bounds, parts = BaseBounds.of(base), _parts(word)
    drawn, things = bounds.things, {tuple(_parts(thing)) for thing in bounds.things}
    known = {*bounds.words, *(part for thing in things for part in thing)}
    ends = {tuple(parts[start:]) for start in range(len(parts))}  # a cub may be none, a lion cub one
    if not drawn or (ends & things and known.issuperset(parts)):
        return
    raise PerfError(
        f"the supercategory `{word}` is no thing that this base draws",
        where=where,
        hint=_instead(word, [part for part in parts if part in drawn][-1:], drawn, drawn),
    )


def _unread(parts: Sequence[str], vocabulary: Collection[str]) -> str:
    """What is wrong with a supercategory that is not in a base's vocabulary."""
    unknown = [part for part in parts if part + _END not in vocabulary]
    if len(parts) == 1:
        return "is no word that this base knows"
    words = " and ".join(f"`{part}`" for part in unknown)
    return f"has {words} in it, {'a word' if len(unknown) == 1 else 'words'} that this base does not know"


def _parts(word: str) -> list[str]:
    return word.lower().replace("-", " ").split()


def _instead(word: str, inside: Sequence[str], known: Sequence[str], drawn: Sequence[str]) -> str:
    """What to take instead of a word. inside: what it has of such words; known: those it may have meant;
    drawn: all that the base draws, where that is known."""
    if near := inside or closest(word, known):
        return f"use a plain word that the base knows, such as `{near[0]}`"
    if drawn:
        return f"this base draws {listed(drawn)}; `perf suggest-super IMAGES` asks your pictures"
    return "use a plain word that the base knows; `perf suggest-super IMAGES` asks your pictures"


def _vocabulary(folder: Path) -> set[str]:
    try:
        if (folder / "vocab.json").is_file():
            content = json.loads((folder / "vocab.json").read_bytes())
        else:
            content = json.loads((folder / "tokenizer.json").read_bytes())["model"]["vocab"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()
    return (
        set(content)
        if isinstance(content, dict) and any(str(token).endswith(_END) for token in content)
        else set()
    )
