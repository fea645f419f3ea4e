"""LoRAs and their kin fused into a base's weights: `W + strength * difference`, whoever wrote the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from perfusion_registry.adapters.adapter import DENOISER
from perfusion_registry.adapters.difference import bias_difference, difference
from perfusion_registry.adapters.modules import Modules
from perfusion_registry.adapters.reading import read_adapters
from perfusion_registry.base.changes import module_at
from perfusion_registry.base.options import FusedLora
from perfusion_registry.errors import PerfError


def fuse(lora: FusedLora, components: Mapping[str, Any], modules: Modules) -> None:
    """Add a LoRA to the weights of a UNet and of text encoders, in fp32 and then rounded to their format.

    components: by their names in diffusers. modules: of the whole base; what the file changes of layers that
    are left out of a text encoder changes nothing. Raises PerfError for a file that does not fit the base.
    """
    if not lora.strength:
        return
    for adapter in read_adapters(lora.part.place, modules).adapters:
        name = "unet" if adapter.component == DENOISER else adapter.component
        target: Any = module_at(components[name], adapter.module)
        if target is None:
            continue
        weight, bias = target.weight, bias_difference(adapter)
        if bias is not None and target.bias is None:
            raise PerfError(
                f"this LoRA changes the bias of {name}'s {adapter.module}, which the base has none of",
                where=str(lora.part.place),
            )
        with torch.no_grad():
            change = difference(adapter, weight.float())
            weight.copy_((weight.float() + lora.strength * change).to(weight.dtype))
            if bias is not None:
                target.bias.add_((lora.strength * bias).to(target.bias))
