"""diffusers' and accelerate's hooks, which have a model on a device only while it computes."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import torch
from torch import nn

from perfusion_registry.base.offload_kinds import Offload

CPU = torch.device("cpu")


def hook(pipe: Any, device: torch.device, how: Offload) -> None:
    """Have a pipeline's components on a device only while they compute, whatever they had before."""
    if how == "model":
        pipe.enable_model_cpu_offload(device=device)
        return
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            hooked(part, device, how)


_grouped: WeakSet[nn.Module] = WeakSet()


def hooked(module: nn.Module, device: torch.device, how: Offload) -> None:
    """Have a model on a device only while it computes."""
    if how == "model":
        from accelerate import cpu_offload_with_hook

        cpu_offload_with_hook(module, device)
        return
    from diffusers.hooks import apply_group_offloading

    if module not in _grouped:
        # Without streams: these load ahead in the order of an earlier call, and with a composition attached
        # other layers are called than without.
        apply_group_offloading(module, onload_device=device, offload_device=CPU, offload_type="leaf_level")
        _grouped.add(module)
