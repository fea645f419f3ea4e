"""From a LoRA's file to the tensors of an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.adapters.adapter import DENOISER, artifact_tensors
from perfusion_registry.adapters.reading import Contents, read_adapters
from perfusion_registry.base.adapted import modules_of_base
from perfusion_registry.methods.importing import look_at, other_method, require_room, said_in
from perfusion_registry.methods.interface import ImportedTensors, LearnedWord
from perfusion_registry.methods.lora.options import NAME, Built
from perfusion_registry.methods.lora.words import word_tensors

if TYPE_CHECKING:
    from perfusion_registry.base import BaseDescription


def phrases_of(contents: Contents) -> tuple[str, ...]:
    """The words that call what a file is: the phrases that say all words which it brings, else these."""
    brought = [word for word in contents.words_in_it if word is not None]
    phrases = [phrase for phrase in contents.words if phrase not in brought]
    return tuple(one for one in phrases if said_in(one, brought) == brought) or tuple(brought)


def imported(file: Path, base: BaseDescription, name: str) -> ImportedTensors:
    """The adapters of a file as an artifact keeps them. Raises PerfError as `look_at` does, for a file that
    has none, and for numbers that are not finite."""
    contents = look_at(file, base)
    if not contents.parts:
        raise other_method(contents, NAME)
    counts = require_room(contents)
    read = read_adapters(file, modules_of_base(base))
    ranks = [part.rank for part in contents.parts if part.rank is not None]
    changed = sum(part.component == DENOISER for part in contents.parts)
    return ImportedTensors(
        artifact_tensors(read.adapters) | word_tensors(read.embeddings),
        Built(
            denoiser=changed,
            text=len(contents.parts) - changed,
            ranks=(min(ranks), max(ranks)) if ranks else None,
            words=tuple(LearnedWord(word=word or file.stem, vectors=count) for word, count in counts.items()),
        ),
        contents.dialect,
    )
