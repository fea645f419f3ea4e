"""Whether a supercategory is made of words that a base knows: each must be one token of its text encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.base.reference import EMBEDDED
from perfusion_registry.errors import PerfError
from perfusion_registry.suggestions import closest

if TYPE_CHECKING:
    from perfusion_registry.base import BaseDescription

_END = "</w>"


def nouns_drawn(base: BaseDescription) -> tuple[str, ...]:
    """What a base of few words draws; of others nobody has a list."""
    if base.repo != EMBEDDED:
        return ()
    from perfusion_registry.storybook.world import CATEGORIES

    return tuple(CATEGORIES)


def check_supercategory(base: BaseDescription, word: str) -> None:
    """Raise PerfError when a base would read `word` in pieces: most often it is misspelt.

    Several words ("teddy bear") pass where each is known; a build says what becomes of them. Reads the
    vocabulary only, without loading a tokenizer; a folder without one in CLIP's format passes, and the build
    will judge.
    """
    vocabulary = _vocabulary(base.folder / "tokenizer")
    parts = word.lower().replace("-", " ").split()
    if not vocabulary or all(part + _END in vocabulary for part in parts):
        return
    words = [token.removesuffix(_END) for token in vocabulary if token.endswith(_END)]
    drawn = nouns_drawn(base)
    inside = [part for part in parts if part + _END in vocabulary and (not drawn or part in drawn)]
    near = inside[-1:] or closest(word, drawn or [known for known in words if known.isalpha()])
    if near:
        hint = f"use a plain word that the base knows, such as `{near[0]}`"
    elif drawn:
        hint = f"this base draws {', '.join(drawn)}; `perf suggest-super IMAGES` asks your pictures"
    else:
        hint = "use a plain word that the base knows; `perf suggest-super IMAGES` asks your pictures"
    raise PerfError(
        f"the supercategory `{word}` is no word to this base, which would read several tokens",
        where="--super",
        hint=hint,
    )


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
