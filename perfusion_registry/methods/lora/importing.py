"""From a LoRA's file to the tensors of an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.adapters.adapter import DENOISER, artifact_tensors
from perfusion_registry.adapters.reading import Contents, look_into, read_adapters
from perfusion_registry.base.adapted import modules_of_base
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.interface import ImportedTensors
from perfusion_registry.methods.lora.options import Built

if TYPE_CHECKING:
    from perfusion_registry.base import BaseDescription


def look_at(file: Path, base: BaseDescription) -> Contents:
    """What a file has for a base, without reading its numbers. Raises PerfError, which names both, where it
    does not fit, and for what is none of this method's."""
    try:
        contents = look_into(file, modules_of_base(base))
    except PerfError as error:
        raise PerfError(
            f"`{file.name}` cannot be imported for {base.repo}: {error.what}",
            where=error.where,
            hint=error.hint,
        ) from error
    if contents.words_in_it:
        word = next(iter(contents.words_in_it)) or file.stem
        raise PerfError(
            f"`{file.name}` brings the word {word!r} (textual inversion), which no imported concept has yet",
            where=str(file),
            hint='WORD = "FILE" under [base.embeddings] of perfusion.toml gives it to the base itself',
        )
    return contents


def imported(file: Path, base: BaseDescription, name: str) -> ImportedTensors:
    """The adapters of a file as an artifact keeps them. Raises PerfError as `look_at` does, and for numbers
    that are not finite."""
    contents = look_at(file, base)
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
