"""Whether a word can be a supercategory of a base: it must be one token of its text encoder."""

from __future__ import annotations

import json
from pathlib import Path

from perfusion_registry.errors import PerfError

_END = "</w>"


def check_supercategory(folder: Path, word: str) -> None:
    """Raise PerfError when `word` is several tokens to the base in `folder`.

    Reads the vocabulary only, without loading a tokenizer; a folder without one in CLIP's format passes, and
    the build will judge.
    """
    vocabulary = _vocabulary(folder / "tokenizer")
    if not vocabulary or word.lower() + _END in vocabulary:
        return
    from perfusion_registry.recipe.document import nearest

    words = [token.removesuffix(_END) for token in vocabulary if token.endswith(_END)]
    inside = [part for part in word.lower().replace("-", " ").split() if part + _END in vocabulary]
    near = inside[-1] if inside else nearest(word.lower(), [known for known in words if known.isalpha()])
    raise PerfError(
        f"the supercategory `{word}` is several tokens to this base, and a concept stands for one",
        where="--super",
        hint=f"use a plain word that the base knows{f', such as `{near}`' if near else ''}",
    )


def _vocabulary(folder: Path) -> set[str]:
    try:
        if (folder / "vocab.json").is_file():
            found = json.loads((folder / "vocab.json").read_bytes())
        else:
            found = json.loads((folder / "tokenizer.json").read_bytes())["model"]["vocab"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()
    return (
        set(found) if isinstance(found, dict) and any(str(token).endswith(_END) for token in found) else set()
    )
