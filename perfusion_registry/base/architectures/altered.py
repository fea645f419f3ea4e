"""A loaded pipeline as `[base]` of a project wants it: autoencoder, layers, LoRAs, words."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from perfusion_registry.base.adapted import modules_of_base
from perfusion_registry.base.architectures.words import add_words
from perfusion_registry.base.checkpoint_loading import checkpoint_files
from perfusion_registry.base.identity import BaseDescription
from perfusion_registry.base.layouts import UNET
from perfusion_registry.base.lora import fuse
from perfusion_registry.base.pretrained import BROKEN, dtype_option, load_pretrained, quiet
from perfusion_registry.base.weights import weight_variants
from perfusion_registry.errors import PerfError
from perfusion_registry.safetensors_header import read_header


def altered(pipe: Any, encoders: Mapping[str, nn.Module], description: BaseDescription) -> None:
    """Apply all of `description.options` to a pipeline but its autoencoder, which it was loaded with.

    encoders: its text encoders in fp32, by component, which are changed too: the pipeline's own ones become
    what is made of them.
    """
    options = description.options
    if not options.changes_text:
        return
    for component, number in options.left_out.items():
        if not description.in_one_file:  # of a file these layers were never read
            leave_out(encoders[component], number)
    modules = modules_of_base(description) if options.loras else {}
    for lora in options.loras:
        fuse(lora, {"unet": pipe.unet, **encoders}, modules)
    if options.embeddings:
        add_words(options.embeddings, pipe, encoders)
    for component, encoder in encoders.items():
        own = getattr(pipe, component)
        if own is not encoder:
            setattr(pipe, component, copy.deepcopy(encoder).to(own.dtype))


def leave_out(encoder: Any, number: int) -> None:
    """Take the last layers out of a CLIP text encoder. What it says then is the normed state before them, as
    clip skip has it."""
    text = getattr(encoder, "text_model", encoder)
    text.encoder.layers = text.encoder.layers[: len(text.encoder.layers) - number]
    for config in (encoder.config, text.config):
        config.num_hidden_layers = len(text.encoder.layers)


def other_autoencoder(description: BaseDescription, dtype: torch.dtype) -> Any:
    """The autoencoder that stands in the place of the base's own, its weights in `dtype`.

    One file is read as CompVis names its tensors or as diffusers does, with the base's own configuration.
    Raises PerfError where weights are missing.
    """
    part = description.options.vae
    assert part is not None
    with quiet():
        from diffusers import AutoencoderKL

    what = f"the autoencoder {part.said!r}"
    if part.place.is_dir():
        variant = weight_variants(part.place)[0]
        model: Any = load_pretrained(AutoencoderKL, part.place, what, variant=variant)
    else:
        model = _of_file(AutoencoderKL, part.place, description, what)
    absent = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if absent:
        raise PerfError(f"{what} has {len(absent)} weights too few, such as {absent[0]}", hint=BROKEN)
    return model.to(dtype)


def other_unet(description: BaseDescription, dtype: torch.dtype) -> Any:
    """The UNet that stands in the place of the base's own, its weights in `dtype`; those of a GGUF file stay
    as they are, and are computed with in `dtype`. Missing weights are left on the meta device."""
    part = description.options.unet
    assert part is not None
    with quiet():
        from diffusers import GGUFQuantizationConfig, UNet2DConditionModel
        from diffusers.models.model_loading_utils import load_gguf_checkpoint

    how: dict[str, Any] = {"config": str(_configurations(description)), "subfolder": "unet"}
    how |= {dtype_option(): dtype, "local_files_only": True}
    try:
        with quiet():
            if part.place.suffix == ".gguf":
                tensors = load_gguf_checkpoint(str(part.place))
                how["quantization_config"] = GGUFQuantizationConfig(compute_dtype=dtype)
            else:
                tensors = load_file(part.place)
            if not any(name.startswith(UNET) for name in tensors):
                tensors = {UNET + name: tensor for name, tensor in tensors.items()}
            return UNet2DConditionModel.from_single_file(tensors, **how)
    except (OSError, RuntimeError, ValueError, KeyError, NotImplementedError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        what = f"the UNet {part.said!r} cannot be loaded: {lines[0]}"
        raise PerfError(what, where=str(part.place), hint=BROKEN) from error


def _configurations(description: BaseDescription) -> Path:
    """The folder with a base's configurations."""
    if description.in_one_file:
        return checkpoint_files(description).layout.folder
    return description.folder


def _of_file(kind: Any, file: Path, description: BaseDescription, what: str) -> Any:
    folder = _configurations(description)
    try:
        with quiet():
            if any(".up_blocks." in f".{name}" for name in read_header(file).tensors):
                model = kind.from_config(kind.load_config(folder / "vae", local_files_only=True))
                model.load_state_dict(load_file(file))
            else:
                model = kind.from_single_file(
                    str(file), config=str(folder), subfolder="vae", local_files_only=True
                )
    except (OSError, RuntimeError, ValueError, KeyError, NotImplementedError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise PerfError(f"{what} cannot be loaded: {lines[0]}", where=str(file), hint=BROKEN) from error
    return model
