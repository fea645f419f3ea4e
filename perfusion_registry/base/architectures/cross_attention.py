"""The cross-attention of diffusers' UNet as its tensors' names and shapes tell it, without torch."""

from __future__ import annotations

from collections.abc import Mapping

from perfusion_registry.base.family import layer_order
from perfusion_registry.errors import PerfError
from perfusion_registry.safetensors_header import TensorEntry


def cross_attention_shapes(unet_tensors: Mapping[str, TensorEntry]) -> list[tuple[str, int, int, int]]:
    """(path, K width, V width, d) of each attn2, in bank order, from the UNet's tensor names and shapes."""
    shapes = []
    for name, entry in unet_tensors.items():
        path, dot, rest = name.rpartition(".to_k.weight")
        value = unet_tensors.get(f"{path}.to_v.weight")
        if dot and not rest and path.rpartition(".")[2] == "attn2" and value is not None:
            if len(entry.shape) != 2 or len(value.shape) != 2:
                raise PerfError("a cross-attention layer of this UNet is not linear", where=path)
            shapes.append((path, entry.shape[0], value.shape[0], entry.shape[1]))
    return sorted(shapes, key=lambda item: layer_order(item[0]))
