"""Looking at a file that a concept is to be made of, whichever method takes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.adapters.reading import Contents, look_into
from perfusion_registry.base.adapted import modules_of_base
from perfusion_registry.base.tokens import ConceptPiece
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.interface import MOST_VECTORS

if TYPE_CHECKING:
    from perfusion_registry.base import BaseDescription


def look_at(file: Path, base: BaseDescription) -> Contents:
    """What a file has for a base, without reading its numbers. Raises PerfError, which names both, where it
    does not fit, and for what is no LoRA, none of its kin and no textual inversion."""
    try:
        return look_into(file, modules_of_base(base))
    except PerfError as error:
        raise PerfError(
            f"`{file.name}` cannot be imported for {base.repo}: {error.what}",
            where=error.where,
            hint=error.hint,
        ) from error


def said_in(phrase: str, words: Sequence[str]) -> list[str]:
    """Which of these words a phrase says, as calls read them."""
    parts = ConceptPiece(phrase, spelled=True, learned=tuple((word, 1) for word in words)).parts
    return [word for number, word in enumerate(words) if number in parts]


def require_room(contents: Contents) -> dict[str | None, int]:
    """How many vectors each word of a file is. Raises PerfError for more than a prompt has room for."""
    counts = {}
    for word, keys in contents.words_in_it.items():
        shape = contents.opened.shapes[next(iter(keys.values()))]
        counts[word] = shape[0] if len(shape) == 2 else 1
        if counts[word] > MOST_VECTORS:
            raise PerfError(
                f"`{contents.opened.file.name}` has {counts[word]} vectors, and a prompt has room for "
                f"{MOST_VECTORS}",
                where=str(contents.opened.file),
                hint="take an embedding of fewer vectors",
            )
    return counts


def other_method(contents: Contents, method: str) -> PerfError:
    """The refusal of a file that is of another method than its recipe says."""
    kind = "a LoRA, or one of its kin" if contents.parts else "a textual inversion"
    other = "lora" if contents.parts else "textual-inversion"
    return PerfError(
        f"`{contents.opened.file.name}` is {kind}, and no concept of the method `{method}`",
        where=str(contents.opened.file),
        hint=f'write `method = "{other}"` in its recipe, or import it anew',
    )
