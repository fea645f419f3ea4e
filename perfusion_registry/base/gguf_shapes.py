"""The names and shapes of the tensors in a GGUF file, by the library that diffusers reads it with."""

from __future__ import annotations

from pathlib import Path

from perfusion_registry.errors import PerfError
from perfusion_registry.extras import lacking


def gguf_shapes(file: Path, where: str) -> dict[str, tuple[int, ...]]:
    """Shapes by name, in the order that torch has them. where: for errors.

    Raises PerfError where the library is not installed, and for what is no GGUF file.
    """
    try:
        from gguf import GGUFReader
    except ImportError as error:
        told = lacking(error, "to read a GGUF file", where)
        if told is None:
            raise
        raise told from error
    try:
        tensors = GGUFReader(str(file)).tensors
    except (OSError, ValueError, KeyError, IndexError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise PerfError(
            f"{file.name} is no whole GGUF file: {lines[0]}", where=where, hint="fetch it again"
        ) from error
    return {tensor.name: tuple(int(side) for side in reversed(tensor.shape)) for tensor in tensors}
