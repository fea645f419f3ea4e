"""diffusers' and accelerate's hooks, which have a model on a device only while it computes."""

from __future__ import annotations

import copy
from typing import Any, TypeVar
from weakref import WeakSet

import torch
from torch import nn

from perfusion_registry.base.offload_kinds import Offload
from perfusion_registry.base.quantised import computes_in

CPU = torch.device("cpu")
AnyModule = TypeVar("AnyModule", bound=nn.Module)
_OF_HOOKS = ("_diffusers_hook", "forward")
"""What diffusers' hooks put into a module's own attributes."""
_LEFT_OUT = object()


def hook(pipe: Any, device: torch.device, how: Offload) -> None:
    """Have a pipeline's components on a device only while they compute, whatever they had before."""
    if how == "model":
        pipe.enable_model_cpu_offload(device=device)
        return
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            hooked(part, device, how)


def is_hooked(module: nn.Module) -> bool:
    """Whether hooks of diffusers or accelerate are on a module or within it."""
    return any(hasattr(part, "_hf_hook") or hasattr(part, "_diffusers_hook") for part in module.modules())


def plain_copy(module: AnyModule) -> AnyModule:
    """A deep copy of a module without diffusers' hooks, which cannot be copied, and whose copies would call
    the original. Numbers that hooks cast are in the format that they are computed with."""
    on = [part for part in module.modules() if "_diffusers_hook" in vars(part)]
    left_out = [vars(part)[name] for part in on for name in _OF_HOOKS if name in vars(part)]
    copied = copy.deepcopy(module, {id(one): _LEFT_OUT for one in left_out})
    for part, own in zip(copied.modules(), module.modules(), strict=True):
        for name in _OF_HOOKS:
            if vars(part).get(name) is _LEFT_OUT:
                del vars(part)[name]
        hooks: Any = getattr(own, "_diffusers_hook", None)
        if hooks is not None and hooks.get_hook("layerwise_casting") is not None:
            part.to(computes_in(own))
    return copied


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
