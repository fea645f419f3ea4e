"""The same adapters as each tool writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from perfusion_registry.adapters.adapter import Adapter
from perfusion_registry.adapters.names import ModuleNames

_DOTTED = (
    "input_blocks", "output_blocks", "middle_block", "time_embed", "label_emb", "in_layers", "out_layers",
    "emb_layers", "skip_connection", "transformer_blocks", "proj_in", "proj_out", "to_q", "to_k", "to_v",
    "to_out",
)  # fmt: skip
_CLIP = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}


def dotted(compvis: str) -> str:
    """CompVis' name with its dots."""
    text = compvis.replace("_", ".")
    for name in _DOTTED:
        text = text.replace(name.replace("_", "."), name)
    return text


def kohya(adapters: Iterable[Adapter], names: ModuleNames) -> dict[str, Tensor]:
    """Of SDXL the denoiser's modules as SGM names them."""
    return _underscored(adapters, names, sgm=len(names.modules) > 2)


def one_trainer(adapters: Iterable[Adapter], names: ModuleNames) -> dict[str, Tensor]:
    """By diffusers' names, whatever the base."""
    return _underscored(adapters, names, sgm=False)


def lycoris(adapters: Iterable[Adapter], names: ModuleNames) -> dict[str, Tensor]:
    """LyCORIS' wrapper of a UNet has a beginning of its own."""
    return {
        key.replace("lora_unet_", "lycoris_"): tensor
        for key, tensor in _underscored(adapters, names, sgm=False).items()
    }


def comfy(adapters: Iterable[Adapter], names: ModuleNames) -> dict[str, Tensor]:
    """By CompVis' names with their dots."""
    tensors: dict[str, Tensor] = {}
    for adapter in adapters:
        if adapter.component == "denoiser":
            module = f"diffusion_model.{dotted(str(names.compvis(adapter.module)))}"
        else:
            module = f"text_encoders.{_CLIP[adapter.component]}.transformer.{adapter.module}"
        tensors |= _own(module, adapter)
    return tensors


def diffusers(adapters: Iterable[Adapter], names: ModuleNames) -> dict[str, Tensor]:
    """Of today, as peft names the factors."""
    return _with_paths(adapters, {"lora_down": "{}.lora_A.weight", "lora_up": "{}.lora_B.weight"})


def diffusers_of_2023(adapters: Iterable[Adapter], names: ModuleNames) -> dict[str, Tensor]:
    """With a layer beside each, which is called otherwise in text encoders."""
    beside = _with_paths(adapters, {"lora_down": "{}.lora.down.weight", "lora_up": "{}.lora.up.weight"})
    return {
        key.replace(".lora.", ".lora_linear_layer.") if key.startswith("text_encoder") else key: tensor
        for key, tensor in beside.items()
    }


def diffusers_processors(adapters: Iterable[Adapter], names: ModuleNames) -> dict[str, Tensor]:
    """The first: processors of attention layers hold the LoRA, of text encoders as well."""
    tensors = {}
    for key, tensor in diffusers_of_2023(adapters, names).items():
        renamed = re.sub(r"\.(attn[12])\.to_(q|k|v|out)(\.0)?\.lora\.", r".\1.processor.to_\2_lora.", key)
        tensors[re.sub(r"\.(q|k|v|out)_proj\.lora_linear_layer\.", r".to_\1_lora.", renamed)] = tensor
    return tensors


def peft(adapters: Iterable[Adapter], names: ModuleNames) -> dict[str, Tensor]:
    """Of one model: the denoiser's alone."""
    ends = {"lora_down": "{}.lora_A.weight", "lora_up": "{}.lora_B.weight"}
    inside = [adapter for adapter in adapters if adapter.component == "denoiser"]
    return {
        key.replace("unet.", "base_model.model.", 1): one for key, one in _with_paths(inside, ends).items()
    }


ANY_KIND: Mapping[str, Callable[[Iterable[Adapter], ModuleNames], dict[str, Tensor]]] = {
    "kohya": kohya, "OneTrainer": one_trainer, "LyCORIS": lycoris, "ComfyUI": comfy,
}  # fmt: skip
"""Those that may hold every kind, and say alpha beside it."""
PLAIN: Mapping[str, Callable[[Iterable[Adapter], ModuleNames], dict[str, Tensor]]] = {
    "diffusers": diffusers, "diffusers of 2023": diffusers_of_2023, "diffusers' first": diffusers_processors,
    "PEFT": peft,
}  # fmt: skip
"""Those of plain LoRAs, without alpha."""


def save(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    """A file of them."""
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata)
    return path


def save_header(
    path: Path, shapes: Mapping[str, tuple[int, ...]], metadata: dict[str, str] | None = None
) -> Path:
    """A whole file of tensors of these shapes, all zeros, that takes no room on the disk."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for key, shape in shapes.items():
        start, end = end, end + 2 * int(torch.Size(shape).numel())
        header[key] = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path


def _underscored(adapters: Iterable[Adapter], names: ModuleNames, sgm: bool) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    several = "text_encoder_2" in names.modules
    for adapter in adapters:
        prefix = {"denoiser": "unet", "text_encoder": "te1" if several else "te", "text_encoder_2": "te2"}
        path = adapter.module.replace(".", "_")
        if sgm and adapter.component == "denoiser":
            path = str(names.compvis(adapter.module))
        tensors |= _own(f"lora_{prefix[adapter.component]}_{path}", adapter)
    return tensors


def _own(module: str, adapter: Adapter) -> dict[str, Tensor]:
    own = {
        f"{module}.{name}" + (".weight" if name.startswith("lora_") else ""): tensor
        for name, tensor in adapter.tensors.items()
    }
    if adapter.alpha is not None:
        own[f"{module}.alpha"] = torch.tensor(adapter.alpha)
    return own


def _with_paths(adapters: Iterable[Adapter], ends: Mapping[str, str]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for adapter in adapters:
        assert (adapter.kind, adapter.alpha) == ("lora", None)
        component = "unet" if adapter.component == "denoiser" else adapter.component
        for name, tensor in adapter.tensors.items():
            tensors[ends[name].format(f"{component}.{adapter.module}")] = tensor
    return tensors
