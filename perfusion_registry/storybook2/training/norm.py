"""Fused group normalisation for training on CPUs, where the stock backward pass takes half of a step.

Only the training scripts use it: the saved model is the stock one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class _FusedNorm(nn.GroupNorm):
    """Group norm, and the SiLU behind it where `silu` is set, as one compiled function."""

    silu = False

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = _fused()(x, self.weight, self.bias, self.num_groups, self.eps, self.silu)
        return result


class _Passed(nn.Module):
    """Stands where the SiLU was that `_FusedNorm` has done; embeddings (two axes) still need theirs."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.ndim == 4 else functional.silu(x)


@cache
def _fused() -> Any:
    # One small kernel for each shape that the networks use.
    torch._dynamo.config.recompile_limit = 128
    return torch.compile(_norm, dynamic=False)


def _norm(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool) -> Tensor:
    y = functional.group_norm(x.float(), groups, weight.float(), bias.float(), eps)
    return (functional.silu(y) if silu else y).to(x.dtype)


def fuse_norms(model: nn.Module) -> None:
    """Replace group norms (and residual blocks' SiLU) of a diffusers model by fused ones, in place."""
    for module in _modules(model):
        if type(module) is nn.GroupNorm:
            module.__class__ = _FusedNorm
    for module in _modules(model):
        if type(module).__name__ == "ResnetBlock2D":
            module.norm1.silu = module.norm2.silu = True
            module.nonlinearity = _Passed()
        if hasattr(module, "conv_norm_out") and hasattr(module, "conv_act"):
            module.conv_norm_out.silu = True
            module.conv_act = _Passed()


def unfuse_norms(model: nn.Module) -> None:
    """Undo `fuse_norms`."""
    for module in _modules(model):
        if type(module) is _FusedNorm:
            module.__class__ = nn.GroupNorm  # type: ignore[assignment]
            module.__dict__.pop("silu", None)
        if type(module).__name__ == "ResnetBlock2D":
            module.nonlinearity = nn.SiLU()
        if hasattr(module, "conv_norm_out") and hasattr(module, "conv_act"):
            module.conv_act = nn.SiLU()


def _modules(model: nn.Module) -> list[Any]:
    return list(model.modules())
