"""From a textual inversion's file to the tensors of an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.adapters.adapter import COMPONENTS, DENOISER
from perfusion_registry.adapters.reading import Contents, read_adapters
from perfusion_registry.base.adapted import modules_of_base
from perfusion_registry.methods.embeddings import embedding_tensors
from perfusion_registry.methods.importing import look_at, other_method, require_room
from perfusion_registry.methods.interface import ImportedTensors
from perfusion_registry.methods.textual_inversion.options import NAME, Untrained

if TYPE_CHECKING:
    from perfusion_registry.base import BaseDescription


def vectors_in(contents: Contents) -> int:
    """How many tokens a call becomes. Raises PerfError for more than a prompt has room for."""
    (count,) = require_room(contents).values()
    return count


def imported(file: Path, base: BaseDescription, name: str) -> ImportedTensors:
    """The vectors of a file as an artifact keeps them. Raises PerfError as `look_at` does, for a file with
    adapters, and for numbers that are not finite."""
    contents = look_at(file, base)
    if contents.parts:
        raise other_method(contents, NAME)
    count = vectors_in(contents)
    (words,) = read_adapters(file, modules_of_base(base)).embeddings
    encoders = [one for one in COMPONENTS if one != DENOISER]
    own = [words.vectors[one].float() for one in encoders if one in words.vectors]
    rows = [one[0] if count == 1 else one for one in own]
    return ImportedTensors(embedding_tensors(rows), Untrained(), contents.dialect, count)
