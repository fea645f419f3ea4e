"""Tensor files: safetensors with one JSON text beside the tensors, repeatable byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.writing import replace_bytes, write_error
from perfusion_registry.safetensors_header import read_header


def write_tensors(path: Path, tensors: Mapping[str, Tensor], key: str, text: str) -> None:
    """Write the file whole or not at all, with `text` under `key` in its header.

    Only one key is written, since safetensors puts several in an arbitrary order. Raises PerfError when the
    folder cannot be written or is full.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, path.parent) from error
    replace_bytes(path, safetensors.torch.save(contiguous, {key: text}))


def parse_tensors(data: bytes, key: str, where: str) -> tuple[dict[str, Tensor], str | None]:
    """The tensors and the text, which is None where another program wrote the file.

    Raises PerfError when it is not a safetensors file.
    """
    try:
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise PerfError(f"the file is not a whole safetensors file: {error}", where=where) from error
    return tensors, read_header(data).metadata.get(key)
