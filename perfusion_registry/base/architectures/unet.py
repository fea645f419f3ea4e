"""What architectures with diffusers' UNet have in common: where its text and its transformer blocks are.

Importing this needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from perfusion_registry.base.family import layer_order
from perfusion_registry.base.files import BaseFiles
from perfusion_registry.base.kinds import SUITABLE
from perfusion_registry.base.layers import CrossAttention, ResidualBlock, Slot
from perfusion_registry.errors import PerfError
from perfusion_registry.safetensors_header import TensorEntry

if TYPE_CHECKING:
    from torch import nn

    from perfusion_registry.base.readers import Reader


def cross_attention_shapes(unet_tensors: Mapping[str, TensorEntry]) -> list[tuple[str, int, int, int]]:
    """(path, K width, V width, d) of each attn2, in bank order, from the UNet's tensor names and shapes."""
    found = []
    for name, entry in unet_tensors.items():
        path, dot, rest = name.rpartition(".to_k.weight")
        value = unet_tensors.get(f"{path}.to_v.weight")
        if dot and not rest and path.rpartition(".")[2] == "attn2" and value is not None:
            if len(entry.shape) != 2 or len(value.shape) != 2:
                raise PerfError("a cross-attention layer of this UNet is not linear", where=path)
            found.append((path, entry.shape[0], value.shape[0], entry.shape[1]))
    return sorted(found, key=lambda item: layer_order(item[0]))


# What a UNet's configuration says if it has to be told more than a time and text, and what that is.
_MORE = {
    "class_embed_type": "a class or a picture",
    "num_class_embeds": "a class or a level of noise",
    "addition_embed_type": "more than its text",
    "encoder_hid_dim_type": "text in another projection",
}


def require_text_alone(files: BaseFiles, allowed: Mapping[str, str] = MappingProxyType({})) -> None:
    """Raise PerfError where the UNet has to be told more than a time and text. allowed: what it may say all
    the same, by key."""
    said = files.configuration("unet")
    for key, what in _MORE.items():
        if said.get(key) not in (None, allowed.get(key)):
            raise PerfError(
                f"the base's UNet also takes {what} ({key} = {said[key]!r}), which perf cannot give it",
                where=str(files.folder / "unet"),
                hint=SUITABLE,
            )


def cross_attentions(unet: nn.Module) -> list[CrossAttention]:
    """Every attn2, sorted by path with numbers as numbers: down, mid, up, as they run.

    Raises PerfError where there is none, or where text is changed between encoder and projections.
    """
    found = [
        CrossAttention(path, module)
        for path, module in unet.named_modules()
        if path.rpartition(".")[2] == "attn2" and hasattr(module, "to_k") and hasattr(module, "to_v")
    ]
    config: Any = getattr(unet, "config", {})
    if not found:
        raise PerfError("this model has no text cross-attention that could be edited", hint=SUITABLE)
    if config.get("encoder_hid_dim_type") is not None:
        raise PerfError("this UNet projects its text encodings before the cross-attention", hint=SUITABLE)
    for attention in found:
        if getattr(attention.module, "norm_cross", None):
            raise PerfError(
                "this UNet normalises its text encodings in each layer", where=attention.path, hint=SUITABLE
            )
        if getattr(attention.module, "fused_projections", False):
            raise PerfError(
                "this UNet's attention projections are fused",
                where=attention.path,
                hint="call unfuse_qkv_projections() first",
            )
    return sorted(found, key=lambda attention: layer_order(attention.path))


def controlnets(pipe: Any) -> list[Reader]:
    """Those of a pipeline, one or several. Raises PerfError for one whose layers cannot be worked with."""
    from perfusion_registry.base.readers import Reader

    own = pipe.components.get("controlnet")
    if own is None:
        return []
    return [Reader(network, cross_attentions(network)) for network in getattr(own, "nets", [own])]


def residual_blocks(unet: nn.Module) -> list[ResidualBlock]:
    """What the paper calls a block: attention layers between two projections, `proj_in` and `proj_out`, of
    which diffusers may have several layers deep."""
    layers = [attention.path for attention in cross_attentions(unet)]
    found = [
        (path, module)
        for path, module in unet.named_modules()
        if hasattr(module, "proj_out") and hasattr(module, "transformer_blocks")
    ]
    return [
        ResidualBlock(
            path, Slot(module, "proj_out"), tuple(layer for layer in layers if layer.startswith(f"{path}."))
        )
        for path, module in sorted(found, key=lambda item: layer_order(item[0]))
    ]
