"""Layers whose weights are kept in other numbers than they compute with: GGUF, and diffusers' layerwise
casting. What they compute with is read here; nothing is quantised."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from perfusion_registry.base.upcasting import UpcastLinear


def is_plain(layer: nn.Module) -> bool:
    """Whether a layer is a linear one whose weight is all of it, in whatever numbers it is kept."""
    return type(layer) in (nn.Linear, UpcastLinear) or is_gguf(layer)


def computes_in(layer: nn.Module) -> torch.dtype:
    """The format that a layer computes in, outside of autocast."""
    if isinstance(layer, UpcastLinear):
        return torch.float32
    if is_gguf(layer):
        own: Any = layer.compute_dtype
        return own if isinstance(own, torch.dtype) else torch.float32
    hooks: Any = getattr(layer, "_diffusers_hook", None)
    casting: Any = hooks.get_hook("layerwise_casting") if hooks is not None else None
    format_: torch.dtype = casting.compute_dtype if casting is not None else next(layer.parameters()).dtype
    return format_


def place_of(layer: nn.Module) -> Tensor:
    """A tensor of no numbers, in the format that a layer computes in, where its weights are."""
    return torch.empty(0, dtype=computes_in(layer), device=next(layer.parameters()).device)


def weight_of(layer: nn.Module) -> Tensor:
    """A copy of the weight, of a linear layer (m', m), in fp32, as the layer computes with it.

    A copy begins where kernels like memory to begin. A weight that was mapped from a file may not, and is
    multiplied with in another order, which rounds otherwise.
    """
    weight: Any = layer.weight
    if not is_gguf(layer):
        plain: Tensor = weight
        return plain.detach().to(torch.float32, copy=True)
    from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

    numbers: Tensor = dequantize_gguf_tensor(weight)
    return numbers.detach().to(computes_in(layer)).to(torch.float32, copy=True)


def shape_of(layer: nn.Module) -> torch.Size:
    """The shape of a layer's weight, which the bytes of GGUF have not."""
    own: Any = layer
    return torch.Size(widths(layer)) if is_gguf(layer) else own.weight.shape


def widths(layer: nn.Module) -> tuple[int, int]:
    """What a linear layer or a convolution writes and reads: (m', m)."""
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    own: Any = layer
    return int(own.weight.shape[0]), int(own.weight.shape[1])


def is_gguf(layer: nn.Module) -> bool:
    """Whether a layer's weight is the bytes of a GGUF file."""
    return type(layer).__name__ == "GGUFLinear"
