"""A base in one file, as CompVis and Stability AI lay it out, written from a diffusers folder for the tests.

The names are those that `ldm`, `sgm` and OpenCLIP have; tests/base/published_tensors.json.gz has them of real
models, and a test holds what is written here against it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from perfusion_registry.base.layouts import Layout, TextEncoder

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
_ENDS = {
    "conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "conv_out": "out.2",
    "time_embedding.linear_2": "time_embed.2", "conv_norm_out": "out.0",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip


def unet_names(names: list[str], per_block: int = 2) -> dict[str, str]:
    """The names within `model.diffusion_model.` of diffusers' names."""
    said = {}
    for name in names:
        end = next((end for end in _ENDS if name.startswith(f"{end}.")), None)
        if end is not None:
            said[name] = _ENDS[end] + name.removeprefix(end)
            continue
        block, _, rest = name.partition(".")
        if block == "mid_block":
            kind, number, rest = rest.split(".", 2)
            place = f"middle_block.{2 * int(number)}" if kind == "resnets" else "middle_block.1"
        else:
            i, kind, number, rest = rest.split(".", 3)
            width = per_block + 1
            first = int(i) * width + int(number)
            if kind == "downsamplers":
                place, rest = f"input_blocks.{(int(i) + 1) * width}.0", rest.replace("conv.", "op.")
            elif kind == "upsamplers":
                has = any(one.startswith(f"up_blocks.{i}.attentions.") for one in names)
                place = f"output_blocks.{int(i) * width + per_block}.{2 if has else 1}"
            elif block == "down_blocks":
                place = f"input_blocks.{first + 1}.{0 if kind == 'resnets' else 1}"
            else:
                place = f"output_blocks.{first}.{0 if kind == 'resnets' else 1}"
        if kind == "resnets":
            part, _, end = rest.rpartition(".")
            rest = f"{_RESNET[part]}.{end}"
        said[name] = f"{place}.{rest}"
    return said


def autoencoder(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors within `first_stage_model.` of diffusers' `AutoencoderKL`."""
    blocks = 1 + max(
        int(found[1]) for name in tensors if (found := re.match(r"encoder\.down_blocks\.(\d+)", name))
    )
    said = {}
    for name, tensor in tensors.items():
        name = re.sub(r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)", r"encoder.down.\1.block.\2", name)
        name = re.sub(r"encoder\.down_blocks\.(\d+)\.downsamplers\.0", r"encoder.down.\1.downsample", name)
        turned = re.match(r"decoder\.up_blocks\.(\d+)\.(resnets\.(\d+)|upsamplers\.0)(.*)", name)
        if turned:
            inside = f"block.{turned[3]}" if turned[3] else "upsample"
            name = f"decoder.up.{blocks - 1 - int(turned[1])}.{inside}{turned[4]}"
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
        name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "mid_block.attentions.0" in name:
            name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
            name = re.sub(r"\.to_([qkv])\.", r".\1.", name).replace("to_out.0", "proj_out")
            if name.endswith("weight") and ".norm." not in name:
                tensor = tensor[:, :, None, None]
        said[name] = tensor
    return said


def open_clip(tensors: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """OpenCLIP's tensors of a text model of transformers. layers: that it has; more than the model's are
    noise."""
    plain = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    width = plain["final_layer_norm.weight"].shape[0]
    said = {
        "token_embedding.weight": plain["embeddings.token_embedding.weight"],
        "positional_embedding": plain["embeddings.position_embedding.weight"],
        "ln_final.weight": plain["final_layer_norm.weight"],
        "ln_final.bias": plain["final_layer_norm.bias"],
        "text_projection": plain.get("text_projection.weight", torch.randn(width, width)).T,
        "logit_scale": torch.tensor(4.6),
    }
    own = 1 + max(int(found[1]) for name in plain if (found := re.match(r"encoder\.layers\.(\d+)", name)))
    for k in range(layers):
        here = {
            name.removeprefix(f"encoder.layers.{min(k, own - 1)}."): tensor
            if k < own
            else torch.randn_like(tensor)
            for name, tensor in plain.items()
            if name.startswith(f"encoder.layers.{min(k, own - 1)}.")
        }
        at = f"transformer.resblocks.{k}"
        for kind in ("weight", "bias"):
            fused = [here[f"self_attn.{side}_proj.{kind}"] for side in "qkv"]
            said[f"{at}.attn.in_proj_{kind}"] = torch.cat(fused)
            said[f"{at}.attn.out_proj.{kind}"] = here[f"self_attn.out_proj.{kind}"]
            said[f"{at}.ln_1.{kind}"] = here[f"layer_norm1.{kind}"]
            said[f"{at}.ln_2.{kind}"] = here[f"layer_norm2.{kind}"]
            said[f"{at}.mlp.c_fc.{kind}"] = here[f"mlp.fc1.{kind}"]
            said[f"{at}.mlp.c_proj.{kind}"] = here[f"mlp.fc2.{kind}"]
    return said


def text_model(tensors: Mapping[str, Tensor], encoder: TextEncoder) -> dict[str, Tensor]:
    """A text encoder's tensors as a file of that layout has them."""
    if encoder.open_clip:
        layers = 1 + max(int(found[1]) for name in tensors if (found := re.search(r"layers\.(\d+)\.", name)))
        own = open_clip(
            tensors, layers + (encoder.component == "text_encoder")
        )  # SD 2 leaves the last one out
    else:
        own = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
        own["embeddings.position_ids"] = torch.arange(77)[None]
    return {encoder.prefix + name: tensor for name, tensor in own.items()}


def one_file(folder: Path, layout: Layout) -> dict[str, Tensor]:
    """The tensors of one file of that layout, of the base in a diffusers folder."""
    unet = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    said_of_unet = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
    names = unet_names(list(unet), said_of_unet["layers_per_block"])
    said = {f"model.diffusion_model.{names[name]}": tensor for name, tensor in unet.items()}
    vae = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    said |= {f"first_stage_model.{name}": tensor for name, tensor in autoencoder(vae).items()}
    for encoder in layout.encoders:
        said |= text_model(load_file(folder / encoder.component / "model.safetensors"), encoder)
    return said


def tiny_layout(folder: Path, like: Layout) -> Layout:
    """A layout with the names of `like` and the configurations and words of a tiny base in a folder."""
    return Layout(f"tiny {like.called}", folder, like.encoders, folder / "tokenizer" / "merges.txt")


def save_one_file(
    folder: Path,
    layout: Layout,
    path: Path,
    *,
    dtype: torch.dtype = torch.float32,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write the base in a diffusers folder as one file. Returns `path`."""
    whole = one_file(folder, layout)
    tensors = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in whole.items()
    }
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path, metadata or {})
    return path
