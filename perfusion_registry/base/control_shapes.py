"""What a control and a base must have in common, told from configurations and from tensors, without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perfusion_registry.safetensors_header import TensorEntry

_KEYS = re.compile(r"\.attn2\.to_k\.weight$")
_OUTPUTS = re.compile(r"(?:^|\.)(?:controlnet_down_blocks|zero_convs)\.(\d+)\.(?:0\.)?weight$")
_MIDDLE = re.compile(r"(?:^|\.)(?:controlnet_mid_block|middle_block_out\.0)\.weight$")
_PICTURE = re.compile(r"(?:^|\.)(?:controlnet_cond_embedding\.conv_in|input_hint_block\.0)\.weight$")
_LATENTS = re.compile(r"^(?:control_model\.)?(?:conv_in|input_blocks\.0\.0)\.weight$")
_IP_KEYS = re.compile(r"^ip_adapter\.\d+\.to_k_ip\.weight$")
_FEATURES = re.compile(r"^adapter\.body\.(\d+)\.resnets\.(\d+)\.block1\.weight$")


@dataclass(frozen=True)
class Shape:
    """Of a ControlNet or a UNet.

    text: numbers of a token; None for a network that reads no text. layers: how many read it, where that is
    known. outputs: the channels of what the first half hands on, the middle one last. latents: channels of a
    latent. picture: channels of the picture that controls it.
    """

    text: int | None
    outputs: tuple[int, ...]
    latents: int
    picture: int = 3
    layers: int | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """That of a configuration. Raises LookupError, TypeError or ValueError for one without numbers."""
        widths = [int(width) for width in config["block_out_channels"]]
        layers = int(config.get("layers_per_block", 2))
        outputs = [widths[0]]
        for at, width in enumerate(widths):
            outputs += [width] * (layers + (at < len(widths) - 1))
        latents, picture = int(config.get("in_channels", 4)), int(config.get("conditioning_channels", 3))
        return cls(int(config["cross_attention_dim"]), (*outputs, widths[-1]), latents, picture)

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, TensorEntry]) -> Shape | None:
        """That of a ControlNet's file, as diffusers or as CompVis calls its tensors; None of another file."""
        outputs = {int(found[1]): one for name, one in tensors.items() if (found := _OUTPUTS.search(name))}
        ends = [
            [one for name, one in tensors.items() if end.search(name)]
            for end in (_PICTURE, _MIDDLE, _LATENTS)
        ]
        if not all(len(one) == 1 and len(one[0].shape) == 4 for one in ends):
            return None
        if not all(len(one.shape) == 4 for one in outputs.values()):
            return None
        (picture,), (middle,), (latents,) = ends
        keys = [one for name, one in tensors.items() if _KEYS.search(name)]
        texts = {one.shape[-1] for one in keys}
        widths = (*(outputs[at].shape[0] for at in sorted(outputs)), middle.shape[0])
        text = texts.pop() if len(texts) == 1 else None
        return cls(text, widths, latents.shape[1], picture.shape[1], len(keys))


@dataclass(frozen=True)
class AdapterShape:
    """Of a T2I-Adapter. features: channels of what it adds to each block. multiple: of which the sides of a
    picture have to be. picture: its channels. xl: whether it is for SDXL. blocks: residual ones in each."""

    features: tuple[int, ...]
    multiple: int
    picture: int
    xl: bool
    blocks: int = 2

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> AdapterShape:
        """That of a configuration. Raises LookupError, TypeError or ValueError for one without numbers."""
        kind, channels = str(config["adapter_type"]), [int(width) for width in config["channels"]]
        if kind == "light_adapter":
            channels.append(channels[-1])
        elif kind not in ("full_adapter", "full_adapter_xl"):
            raise ValueError(kind)
        multiple, picture = int(config["downscale_factor"]), int(config["in_channels"])
        return cls(tuple(channels), multiple, picture, kind == "full_adapter_xl")

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, TensorEntry]) -> AdapterShape | None:
        """That of a file of a full adapter, as diffusers calls its tensors; None of another file."""
        first = tensors.get("adapter.conv_in.weight")
        found = [(match, one) for name, one in tensors.items() if (match := _FEATURES.match(name))]
        if first is None or len(first.shape) != 4 or not found:
            return None
        features = {int(match[1]): one.shape[0] for match, one in found}
        blocks = 1 + max(int(match[2]) for match, _ in found)
        for multiple in (8, 16):  # pixels on a side that become one, so their square is in its channels
            picture, rest = divmod(first.shape[1], multiple**2)
            if not rest and picture in (1, 3):
                widths = tuple(features[at] for at in sorted(features))
                return cls(widths, multiple, picture, multiple == 16, blocks)
        return None


@dataclass(frozen=True)
class PromptShape:
    """Of an IP-Adapter. layers: (what its keys have, numbers of a token) of each layer. encoder: numbers that
    its image encoder has for a picture; whole: whether these are of the last layer but one, for each patch,
    instead of the projection's."""

    layers: tuple[tuple[int, ...], ...]
    encoder: int
    whole: bool

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, TensorEntry]) -> PromptShape | None:
        """That of a file as its authors name its tensors (tencent-ailab/IP-Adapter), plain, plus or of full
        faces; None of another file, such as one for face embeddings."""
        layers = tuple(one.shape for name, one in tensors.items() if _IP_KEYS.match(name))
        ends = {
            "image_proj.proj.weight": False,
            "image_proj.proj_in.weight": True,
            "image_proj.proj.0.weight": True,
        }
        found = [(tensors[name], whole) for name, whole in ends.items() if name in tensors]
        plain = "image_proj.latents" in tensors or "image_proj.proj.3.weight" in tensors
        if not layers or len(found) != 1 or not (plain or not found[0][1]):
            return None
        if any(len(shape) != 2 for shape in (*layers, found[0][0].shape)):
            return None
        return cls(layers, found[0][0].shape[1], found[0][1])
