"""Families: bases of one text encoder and the same cross-attention shapes, so that concepts transfer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from perfusion_registry.base.digest import remembered
from perfusion_registry.base.weights import half_precision_digest
from perfusion_registry.errors import PerfError
from perfusion_registry.safetensors_header import TensorEntry

# What decides the numbers that come out of a text encoder, beside its weights.
_DECISIVE = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "vocab_size",
    "hidden_act",
    "layer_norm_eps",
    "use_attention_mask",
)


def family_digest(
    text_config: Mapping[str, Any], text_weights: Iterable[Path], unet_tensors: Mapping[str, TensorEntry]
) -> str:
    """The hex sha256 that bases of one family have in common.

    It covers the text encoder's architecture and weights (in half precision, so that an fp16 copy is of the
    same family) and, in bank order, each cross-attention layer's path, K width, V width and input width d.
    """
    identity = {
        "text_encoder": {key: text_config.get(key) for key in _DECISIVE if text_config.get(key) is not None},
        "weights": sorted(remembered("half", path, half_precision_digest) for path in text_weights),
        "layers": cross_attention_shapes(unet_tensors),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


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


def layer_order(path: str) -> list[tuple[bool, int, str]]:
    """The sort key of layer paths, numbers as numbers: down, mid, up, which is the order of execution."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in path.split(".")]
