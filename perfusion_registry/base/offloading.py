"""Bases that are larger than a device's memory: diffusers' offloading, with concepts attached.

What draws rests in the processor's memory and is on the device while it computes: a model at a time, or a
layer at a time. Text encoders that compute in fp32 and the bank stay with the processor, which reads each
prompt once: of SDXL that is, computed, 3.4 GB that a device need not have, and 4.6 of files in fp32.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from perfusion_registry.base.offload_hooks import CPU, hook, hooked, is_hooked, plain_copy
from perfusion_registry.base.offload_kinds import Offload, said_in
from perfusion_registry.base.upcasting import share_weights
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from perfusion_registry.base.interface import Base

    AnyBase = TypeVar("AnyBase", bound=Base)


def require_memory_of_its_own(device: torch.device, how: Offload) -> None:
    """Raise PerfError for a device whose memory is that of the processor."""
    if device.type != "cuda":
        what = "the processor" if device.type == "cpu" else device.type
        raise PerfError(
            f"there is nothing to offload: {what} computes in the machine's own memory",
            where=said_in(how),
            hint="leave it out; it is for a GPU with memory of its own",
        )


def offloaded(base: AnyBase, device: torch.device, how: Offload) -> AnyBase:
    """A base that is loaded on the processor, as one that draws on a device.

    Pictures larger than those that the base draws by default go through its autoencoder in tiles. Raises
    PerfError for a base whose pipeline cannot be offloaded.
    """
    pipe, bank = base.pipe, base.bank
    if not hasattr(pipe, "enable_model_cpu_offload"):
        raise PerfError(
            f"diffusers cannot offload a {type(pipe).__name__}",
            where=said_in(how),
            hint="leave it out; `--dtype bf16` takes half of the memory of fp32",
        )
    own = _modules_of(base)
    for name, part in pipe.components.items():
        if not isinstance(part, nn.Module):
            continue
        # Its hooks would move the text encoder away while gradients are on their way.
        if any(part is module or share_weights(part, module) for module in own):
            setattr(pipe, name, copy.deepcopy(part))
    there = replace(base, device=device, offload=how)
    vars(there)["bank"] = replace(bank, projecting=tuple(map(copy.deepcopy, bank.projecting)))
    vae = getattr(base, "vae", None)
    _tile(pipe.vae, max(base.picture_size))
    if vae is not None and vae is not pipe.vae:  # in fp32 beside one in fp16
        vars(there)["vae"] = vae
        hooked(vae, device, how)
    hook(pipe, device, how)
    return there


def text_to_device(base: Base) -> None:
    """Have an offloaded base's text encoders compute where it draws: for captions by the thousand, while
    nothing is drawn."""
    for module in (*_modules_of(base), *base.bank.projecting):
        module.to(base.device)


@contextmanager
def text_away(base: Base) -> Iterator[None]:
    """A context in which a base's text encoders, and its pipeline's where they are others, leave a device's
    memory to what computes there. Those that hooks move are away already."""
    pipes = [part for name, part in base.pipe.components.items() if name.startswith("text_encoder")]
    own = [part for part in pipes if isinstance(part, nn.Module) and not is_hooked(part)]
    modules = [*{id(module): module for module in (*_modules_of(base), *own)}.values()]
    places = [next(module.parameters()).device for module in modules]
    try:
        for module in modules:
            module.to(CPU)
        yield
    finally:
        for module, place in zip(modules, places, strict=True):
            module.to(place)


def execution_device(pipe: Any, denoiser: nn.Module) -> torch.device:
    """Where a live pipeline computes, which is not where its weights rest if it is offloaded.

    Raises PerfError where weights are nowhere between calls, so that K and V could not be read.
    """
    weights = [*denoiser.parameters()]
    if any(weight.is_meta for weight in weights):
        raise PerfError(
            "the pipeline's weights are away between calls, so concepts cannot be read into them",
            hint="offload by enable_model_cpu_offload() or enable_group_offload() instead of one by one",
        )
    if any(_on_disk(module) for module in denoiser.modules()):
        raise PerfError(
            "the pipeline's weights are on a disk between calls, so concepts cannot be read into them",
            hint="call enable_group_offload() without offload_to_disk_path",
        )
    device = getattr(pipe, "_execution_device", None)
    return device if isinstance(device, torch.device) else weights[0].device


def without_hooks(encoder: Any, own: Any) -> Any:
    """A text encoder that is on the device of its weights: a copy where hooks move the pipeline's own one."""
    if not is_hooked(own):
        return encoder
    encoder = plain_copy(encoder) if encoder is own else encoder
    if hasattr(encoder, "_hf_hook"):
        from accelerate.hooks import remove_hook_from_module

        return remove_hook_from_module(encoder, recurse=True)
    return encoder


def _on_disk(module: nn.Module) -> bool:
    found = getattr(module, "_diffusers_hook", None)
    group = getattr(found.get_hook("group_offloading") if found else None, "group", None)
    return getattr(group, "offload_to_disk_path", None) is not None


def _modules_of(base: Base) -> list[nn.Module]:
    """What a base has beside its pipeline."""
    values = [getattr(base, field.name) for field in fields(base)]
    flat = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
    return [part for part in flat if isinstance(part, nn.Module)]


def _tile(vae: Any, side: int) -> None:
    """Have larger pictures than of `side` pixels go through an autoencoder in tiles, and no others."""
    if not hasattr(vae, "tile_latent_min_size"):
        return
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    vae.tile_sample_min_size = max(vae.tile_sample_min_size, side)
    vae.tile_latent_min_size = max(vae.tile_latent_min_size, side // factor)
    vae.enable_tiling()
