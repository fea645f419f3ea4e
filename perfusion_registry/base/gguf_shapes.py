"""The names and shapes of the tensors in a GGUF file, by the library that diffusers reads it with."""

from __future__ import annotations

from pathlib import Path

from perfusion_registry.errors import PerfError
from perfusion_registry.extras import lacking

_RESHAPED = "comfy.gguf.orig_shape."
"""Before the name of a tensor, where the shape is kept that it had."""


def gguf_shapes(file: Path, where: str) -> dict[str, tuple[int, ...]]:
    """Shapes by name, in the order that torch has them. where: for errors.

    Raises PerfError where the library is not installed, for what is no GGUF file, and for one whose tensors
    ComfyUI's converter cut into rows of a block's length, and which are not in their own shapes any more.
    """
    try:
        from gguf import GGUFReader
    except ImportError as error:
        told = lacking(error, "to read a GGUF file", where)
        if told is None:
            raise
        raise told from error
    try:
        read = GGUFReader(str(file))
        tensors = read.tensors
    except (OSError, ValueError, KeyError, IndexError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise PerfError(
            f"{file.name} is no whole GGUF file: {lines[0]}", where=where, hint="fetch it again"
        ) from error
    if any(field.startswith(_RESHAPED) for field in read.fields):
        raise PerfError(
            f"the tensors of {file.name} were laid out anew by ComfyUI's converter, convolutions among them, "
            "which diffusers does not read",
            where=where,
            hint="take a UNet in safetensors, in fp16 or plain fp8, or a GGUF file that keeps their shapes",
        )
    return {tensor.name: tuple(int(side) for side in reversed(tensor.shape)) for tensor in tensors}
