"""Large text encoders whose weights are kept in 16 bits, and upcast to fp32 where they compute, layer by
layer.

Every number of fp16 and of bf16 is one of fp32 too: what such files hold is computed with to the bit as if
the whole encoder were in fp32, in half of the memory.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

LARGE = 2**30
"""Bytes of a text encoder in fp32, from which on it is kept in 16 bits: SDXL's second one has 2.8 GB, T5-XXL
19; CLIP ViT-L has half a GB, and stays in fp32."""

Model = TypeVar("Model", bound=nn.Module)


class UpcastLinear(nn.Linear):
    """A linear layer with a frozen weight of 16 bits, which reads, computes in and writes fp32."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., m); (..., m')."""
        y: Tensor = _Upcast.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return y


class _Upcast(torch.autograd.Function):
    """x W^T + b, of which no W in fp32 is kept for the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return linear(x, weight.to(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return gradient @ weight.to(gradient.dtype), None, None


def is_large(model: nn.Module) -> bool:
    """Whether a text encoder would have `LARGE` bytes or more in fp32."""
    return 4 * sum(parameter.numel() for parameter in model.parameters()) >= LARGE


def kept_format(formats: set[str], apart: set[str] | None = None) -> torch.dtype | None:
    """The 16 bits that an encoder can be kept in, by the formats of a file's weights; None where there are
    others, so that reading them in 16 bits would round. apart: of layers that transformers has in fp32 beside
    fp16, which may have 32."""
    apart = apart or set()
    if formats == {"F16"} and apart <= {"F16", "F32"}:
        return torch.float16
    return torch.bfloat16 if formats == {"BF16"} and apart <= {"BF16"} else None


def upcast(model: Model, kept: torch.dtype) -> Model:
    """The model, changed to compute in fp32 with the weights of its linear layers in `kept`, of 16 bits.

    All else, such as embeddings, norms and biases, becomes fp32, and so do layers whose weights the model
    itself asks about (transformers' `_keep_in_fp32_modules`). Frozen afterwards.
    """
    model.requires_grad_(False)
    linears = dict(_linears(model))
    for module in model.modules():
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(
                    kept if module in linears and name == "weight" else torch.float32
                )
        if module in linears:
            module.__class__ = UpcastLinear
    return model


def upcast_of(own: Model) -> Model:
    """A model in 16 bits once more, computing in fp32, with the very weights of its linear layers: these take
    no memory twice, and are moved from device to device together."""
    shared = {id(module.weight): module.weight for module, _ in _linears(own)}
    return upcast(copy.deepcopy(own, shared), own.dtype)  # type: ignore[arg-type]


def share_weights(model: nn.Module, other: nn.Module) -> bool:
    """Whether two models have a weight between them."""
    own = {id(parameter) for parameter in model.parameters()}
    return any(id(parameter) in own for parameter in other.parameters())


def _linears(model: nn.Module) -> Iterator[tuple[nn.Linear, str]]:
    """The layers that are kept in 16 bits, each with its path. A weight that another module has as well, such
    as a table of embeddings, is none of theirs."""
    asked = {*(getattr(model, "_keep_in_fp32_modules", None) or ())}
    uses: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    for path, module in model.named_modules():
        if type(module) is nn.Linear and uses[id(module.weight)] == 1 and not asked & {*path.split(".")}:
            yield module, path
