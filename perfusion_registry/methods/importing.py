"""Looking at a file that a concept is to be made of, whichever method takes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.adapters.reading import Contents, look_into
from perfusion_registry.base.adapted import modules_of_base
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.interface import Examined

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


def examined(contents: Contents, vectors: int | None = None) -> Examined:
    """What a file says of itself. vectors: as `Examined` has them."""
    return Examined(contents.opened.file, contents.dialect, contents.words, contents.licence, vectors)


def other_method(contents: Contents, method: str) -> PerfError:
    """The refusal of a file that is of another method than its recipe says."""
    kind = "a LoRA, or one of its kin" if contents.parts else "a textual inversion"
    other = "lora" if contents.parts else "textual-inversion"
    return PerfError(
        f"`{contents.opened.file.name}` is {kind}, and no concept of the method `{method}`",
        where=str(contents.opened.file),
        hint=f'write `method = "{other}"` in its recipe, or import it anew',
    )
