"""Random controls for the tests, in the layouts in which they are published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, ControlNetUnionModel, T2IAdapter
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from tests.one_file import unet_names

HINTS = (8, 8, 8, 8)
"""Channels of a control picture's embedding; a real one has 16, 32, 96, 256."""


def random_controlnet(unet: Any, seed: int = 0) -> ControlNetModel:
    """A ControlNet for a UNet whose last layers are not zero, as they are before its training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=HINTS)
        for name, parameter in made.named_parameters():
            if name.startswith(("controlnet_", "controlnet_cond_embedding.conv_out")):
                torch.nn.init.normal_(parameter, std=0.1)
    return made.eval().requires_grad_(False)


def save_controlnet(unet: Any, folder: Path, seed: int = 0) -> Path:
    """Write such a one as diffusers does. Returns `folder`."""
    random_controlnet(unet, seed).save_pretrained(folder)
    return folder


def random_union(unet: Any, seed: int = 0, kinds: int = 8) -> ControlNetUnionModel:
    """A ControlNet-Union for a UNet, with nothing zero that its training moves."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = ControlNetUnionModel.from_unet(unet, conditioning_embedding_out_channels=HINTS)
        width = unet.config.block_out_channels[0]
        sizes = {"num_control_type": kinds, "num_trans_channel": width, "num_proj_channel": width}
        config = {key: value for key, value in made.config.items() if key != "_use_default_values"}
        made = ControlNetUnionModel.from_config(config | sizes)
        for name, parameter in made.named_parameters():
            if name.startswith(("controlnet_", "spatial_ch_projs")):
                torch.nn.init.normal_(parameter, std=0.1)
    return made.eval().requires_grad_(False)


def random_adapter(unet: Any, seed: int = 0, *, picture: int = 3, kind: str | None = None) -> T2IAdapter:
    """A T2I-Adapter for a UNet. picture: channels of what controls it. kind: other than fits the UNet."""
    xl = unet.config.down_block_types[0] == "DownBlock2D"
    widths = list(unet.config.block_out_channels)
    kind = kind or ("full_adapter_xl" if xl else "full_adapter")
    fewer, more = [*dict.fromkeys(widths)], [*widths, widths[-1]][:4]
    channels = {"light_adapter": fewer, "full_adapter_xl": more}.get(kind, widths)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        factor = 16 if kind == "full_adapter_xl" else 8
        made = T2IAdapter(picture, channels, 2, factor, kind)
    return made.eval().requires_grad_(False)


def save_ip_adapter(unet: Any, file: Path, seed: int = 0, *, encoder: bool = True) -> Path:
    """Write a plain IP-Adapter for a UNet, as tencent-ailab/IP-Adapter names its tensors, and its image
    encoder beside it. Returns `file`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        vision = CLIPVisionConfig(**sizes, image_size=32, patch_size=8, projection_dim=24)
        if encoder:
            CLIPVisionModelWithProjection(vision).save_pretrained(file.parent / "image_encoder")
        d = unet.config.cross_attention_dim
        tensors = {
            "image_proj.proj.weight": torch.randn(4 * d, 24) / 5,
            "image_proj.proj.bias": torch.randn(4 * d),
            "image_proj.norm.weight": torch.ones(d),
            "image_proj.norm.bias": torch.zeros(d),
        }
        for number, name in enumerate(unet.attn_processors):
            path = name.removesuffix(".processor")
            if path.endswith("attn2"):
                keys = unet.get_submodule(path).to_k.weight.shape
                tensors[f"ip_adapter.{number}.to_k_ip.weight"] = torch.randn(keys) / 5
                tensors[f"ip_adapter.{number}.to_v_ip.weight"] = torch.randn(keys) / 2
    return save_tensors(tensors, file)


def compvis(network: ControlNetModel) -> dict[str, Tensor]:
    """A ControlNet's tensors as `cldm` of lllyasviel/ControlNet calls them, without `control_model.`.

    tests/base/published_names.json has names of a real one.
    """
    tensors = network.state_dict()
    inside = [name for name in tensors if not name.startswith("controlnet_")]
    names = unet_names(inside, network.config.layers_per_block)
    said = {ours: tensors[name] for name, ours in names.items()}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if part == "controlnet_down_blocks":
            number, _, end = rest.partition(".")
            said[f"zero_convs.{number}.0.{end}"] = tensor
        elif part == "controlnet_mid_block":
            said[f"middle_block_out.0.{rest}"] = tensor
        elif part == "controlnet_cond_embedding":
            where, _, end = rest.rpartition(".")
            at = {"conv_in": 0, "conv_out": 14}.get(where) if "." not in where else None
            at = 2 * (int(where.rpartition(".")[2]) + 1) if at is None else at
            said[f"input_hint_block.{at}.{end}"] = tensor
    return said


def save_tensors(tensors: Mapping[str, Tensor], path: Path, before: str = "") -> Path:
    """Write tensors, `before` in front of their names. Returns `path`."""
    save_file({f"{before}{name}": tensor.contiguous().clone() for name, tensor in tensors.items()}, path)
    return path
