"""LoRAs fused into a base's weights: `W + strength * alpha / r * B A`, whoever wrote the file.

Kohya's files name a module by its path with `_` for each `.`, of CompVis' UNet for SDXL; diffusers and peft
name it as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from perfusion_registry.base.options import FusedLora
from perfusion_registry.errors import PerfError
from perfusion_registry.safetensors_header import read_header

_SIDES = re.compile(
    r"(?P<module>.+?)[._](?:lora_|lora\.|lora_linear_layer\.)(?P<side>A|B|down|up)(?:\.default)?\.weight"
)
_KOHYA = {
    "lora_unet_": "unet",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lora_te_": "text_encoder",
}
_DIFFUSERS = re.compile(
    r"(?:base_model\.model\.)?(?P<component>unet|text_encoder_2|text_encoder)\.(?P<path>.+)"
)
# Of attention layers as diffusers named them while processors held the LoRA.
_PROCESSOR = re.compile(r"\.processor\.to_(q|k|v|out)$")
_RESNET = {
    "in_layers_2": "conv1",
    "out_layers_3": "conv2",
    "emb_layers_1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}


@dataclass(frozen=True)
class Factors:
    """Of one module: down (r, m) and up (m', r), of convolutions with their kernels; the scale alpha / r."""

    down: Tensor
    up: Tensor
    scale: float

    def change(self) -> Tensor:
        """B A times the scale, fp32, in the shape of the module's weights."""
        up, down = self.up.float(), self.down.float()
        if down.ndim == 4:
            change = torch.einsum("orxy,rikl->oikl", up, down) if up.shape[2:] == (1, 1) else None
            if change is None:
                raise ValueError("its upper factor has a kernel")
            return change * self.scale
        return up.flatten(1) @ down.flatten(1) * self.scale


def fuse(lora: FusedLora, components: Mapping[str, Any]) -> None:
    """Add a LoRA to the weights of a UNet and of text encoders, in fp32 and then rounded to their format.

    components: by their names in diffusers. Raises PerfError for a module that they do not have, or have in
    another shape: the LoRA is of another kind of base.
    """
    if not lora.strength:
        return
    file = lora.part.place
    found = {name: modules_by_name(name, model) for name, model in components.items()}
    for (component, module), factors in read_lora(file).items():
        target = found.get(component, {}).get(module)
        if target is None:
            raise _misfit(file, f"it changes {component}'s {module}, which the base does not have")
        try:
            change = factors.change()
        except (RuntimeError, ValueError) as error:
            raise _misfit(file, f"of {component}'s {module}, {error}") from error
        weight = target.weight
        if change.numel() != weight.numel() or change.shape[0] != weight.shape[0]:
            raise _misfit(
                file,
                f"of {component}'s {module} it has {tuple(change.shape)}, and the base {tuple(weight.shape)}",
            )
        with torch.no_grad():
            whole = weight.float() + lora.strength * change.reshape(weight.shape).to(weight.device)
            weight.copy_(whole.to(weight.dtype))


def read_lora(file: Path) -> dict[tuple[str, str], Factors]:
    """The factors of each module in a LoRA's file, by `place_of`. Raises PerfError where one of two is
    missing."""
    tensors, metadata = load_file(file), read_header(file).metadata
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _SIDES.fullmatch(name)
        if match is not None:
            side = {"A": "down", "B": "up"}.get(match["side"], match["side"])
            pairs.setdefault(match["module"], {})[side] = tensor
    found = {}
    for module, pair in pairs.items():
        if set(pair) != {"down", "up"}:
            raise _misfit(file, f"it has only one factor of {module}")
        rank = pair["down"].shape[0]
        component, path = place_of(module)
        alpha = tensors.get(f"{module}.alpha")
        number = float(alpha) if alpha is not None else _peft_alpha(metadata, component, path, rank)
        found[component, path] = Factors(pair["down"], pair["up"], number / rank)
    return found


def place_of(module: str) -> tuple[str, str]:
    """The component of a module in a LoRA's file, and its name there, which is one of `modules_by_name`."""
    for prefix, component in _KOHYA.items():
        if module.startswith(prefix):
            return component, module.removeprefix(prefix)
    match = _DIFFUSERS.fullmatch(module)
    component, path = (
        (match["component"], match["path"]) if match else ("unet", module.removeprefix("base_model.model."))
    )
    path = _PROCESSOR.sub(lambda found: ".to_out.0" if found[1] == "out" else f".to_{found[1]}", path)
    return component, path.removeprefix("text_model.")


def _peft_alpha(metadata: Mapping[str, str], component: str, path: str, rank: int) -> float:
    """As peft's configuration says in the file's metadata; else the rank, which is a scale of 1."""
    try:
        said = json.loads(metadata["lora_adapter_metadata"])
        own = said.get(f"{component}.alpha_pattern") or {}
        alpha = own.get(path, said.get(f"{component}.lora_alpha", rank))
        return float(alpha) * (rank**0.5 if said.get(f"{component}.use_rslora") else 1)
    except (KeyError, ValueError, TypeError, AttributeError):
        return float(rank)


def modules_by_name(component: str, model: nn.Module) -> dict[str, Any]:
    """The linear and convolutional modules of a model by every name that LoRAs have for them."""
    named: dict[str, Any] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            plain = path.removeprefix("text_model.")
            for name in (path, plain, *(_compvis(path, model) if component == "unet" else ())):
                named[name] = named[name.replace(".", "_")] = module
            if component != "unet":
                named[f"text_model_{plain.replace('.', '_')}"] = module
                for old, new in (
                    ("q_proj", "to_q"),
                    ("k_proj", "to_k"),
                    ("v_proj", "to_v"),
                    ("out_proj", "to_out"),
                ):
                    named[plain.replace(old, new)] = module
    return named


def _compvis(path: str, unet: Any) -> Iterator[str]:
    """The name of a module of diffusers' UNet as CompVis', with `_` for each `.`, has it."""
    width = unet.config.layers_per_block + 1
    outside = {
        "conv_in": "input_blocks_0_0",
        "conv_out": "out_2",
        "time_embedding.linear_1": "time_embed_0",
        "time_embedding.linear_2": "time_embed_2",
        "add_embedding.linear_1": "label_emb_0_0",
        "add_embedding.linear_2": "label_emb_0_2",
    }
    if path in outside:
        yield outside[path]
        return
    match = re.fullmatch(
        r"(?:(?P<side>down|up)_blocks\.(?P<block>\d+)|mid_block)\.(?P<kind>resnets|attentions|downsamplers|upsamplers)"
        r"\.(?P<number>\d+)\.(?P<rest>.+)",
        path,
    )
    if match is None:
        return
    kind, number, rest = match["kind"], int(match["number"]), match["rest"].replace(".", "_")
    if kind == "resnets":
        rest = {new: old for old, new in _RESNET.items()}.get(rest, rest)
    if match["side"] is None:
        yield f"middle_block_{1 if kind == 'attentions' else 2 * number}_{rest}"
        return
    at = int(match["block"]) * width + (number if kind in ("resnets", "attentions") else width - 1)
    if match["side"] == "down":
        rest = "op" if kind == "downsamplers" else rest
        yield f"input_blocks_{at + 1}_{0 if kind in ('resnets', 'downsamplers') else 1}_{rest}"
        return
    if kind == "upsamplers":
        attends = hasattr(unet.up_blocks[int(match["block"])], "attentions")
        yield f"output_blocks_{at}_{2 if attends else 1}_{rest}"
        return
    yield f"output_blocks_{at}_{0 if kind == 'resnets' else 1}_{rest}"


def _misfit(file: Path, what: str) -> PerfError:
    return PerfError(
        f"this LoRA does not fit the base: {what}",
        where=str(file),
        hint="take the LoRA that was made for this base's kind",
    )
