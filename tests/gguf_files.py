"""GGUF files of denoisers, as tools of ComfyUI and stable-diffusion.cpp write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor


def save_gguf(
    tensors: Mapping[str, Tensor],
    path: Path,
    kind: str = "Q8_0",
    architecture: str = "sd1",
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Path:
    """Write tensors, those of linear layers quantised where their rows are whole blocks. shapes: to say
    of tensors, as ComfyUI's converter does of those that it lays out anew. Returns `path`."""
    import gguf

    writer: Any = gguf.GGUFWriter(str(path), architecture)
    quantised = gguf.GGMLQuantizationType[kind]
    for name, shape in (shapes or {}).items():
        writer.add_array(f"comfy.gguf.orig_shape.{name}", shape)
    block = gguf.GGML_QUANT_SIZES[quantised][0]
    for name, tensor in tensors.items():
        numbers = tensor.float().numpy()
        if tensor.ndim == 2 and tensor.shape[1] % block == 0 and name.endswith("weight"):
            writer.add_tensor(name, gguf.quants.quantize(numbers, quantised), raw_dtype=quantised)
        else:
            writer.add_tensor(name, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
