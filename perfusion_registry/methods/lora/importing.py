"""From a LoRA's file to the tensors of an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.adapters.adapter import DENOISER, artifact_tensors
from perfusion_registry.adapters.reading import Contents, read_adapters
from perfusion_registry.base.adapted import modules_of_base
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.importing import look_at, other_method
from perfusion_registry.methods.interface import ImportedTensors
from perfusion_registry.methods.lora.options import NAME, Built

if TYPE_CHECKING:
    from perfusion_registry.base import BaseDescription


def require_no_words(contents: Contents) -> None:
    """Raise PerfError where textual inversions lie in a LoRA's file."""
    if contents.words_in_it:
        word, file = next(iter(contents.words_in_it)), contents.opened.file
        raise PerfError(
            f"`{file.name}` brings the word {word!r} (textual inversion), which no imported concept has yet",
            where=str(file),
            hint='WORD = "FILE" under [base.embeddings] of perfusion.toml gives it to the base itself',
        )


def imported(file: Path, base: BaseDescription, name: str) -> ImportedTensors:
    """The adapters of a file as an artifact keeps them. Raises PerfError as `look_at` does, for a file that
    has none, and for numbers that are not finite."""
    contents = look_at(file, base)
    if not contents.parts:
        raise other_method(contents, NAME)
    require_no_words(contents)
    read = read_adapters(file, modules_of_base(base))
    ranks = [part.rank for part in contents.parts if part.rank is not None]
    changed = sum(part.component == DENOISER for part in contents.parts)
    return ImportedTensors(
        artifact_tensors(read.adapters),
        Built(
            denoiser=changed,
            text=len(contents.parts) - changed,
            ranks=(min(ranks), max(ranks)) if ranks else None,
        ),
        contents.dialect,
    )
