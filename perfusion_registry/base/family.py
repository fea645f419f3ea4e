"""Families: bases of one text encoder and the same cross-attention shapes, so that concepts transfer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfusion_registry.base.digest import remembered
from perfusion_registry.base.weights import half_digest, half_precision_digest, plain_name

if TYPE_CHECKING:
    from torch import Tensor

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
    text_configs: Sequence[Mapping[str, Any]],
    text_weights: Iterable[str],
    layers: Sequence[tuple[str, int, int, int]],
) -> str:
    """The hex sha256 that bases of one family have in common.

    text_configs: of each text encoder. text_weights: a digest of each file of its weights, in half precision,
    so that an fp16 copy is of the same family. layers: of each cross-attention layer, in bank order, its
    path, K width, V width and input width d.
    """
    encoders = {
        f"text_encoder_{number}" if number > 1 else "text_encoder": {
            key: config.get(key) for key in _DECISIVE if config.get(key) is not None
        }
        for number, config in enumerate(text_configs, 1)
    }
    identity = {
        **encoders,
        "weights": sorted(text_weights),
        "layers": layers,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def text_digest(path: Path, layers: int | None = None) -> str:
    """The digest of a file of a text encoder's weights, as `family_digest` takes it; remembered.

    layers: how many are read, from the first; all by default.
    """
    if layers is None:
        return remembered("half", path, half_precision_digest)
    return remembered(f"half of {layers} layers", path, lambda file: half_precision_digest(file, layers))


def live_text_digest(weights: Mapping[str, Tensor]) -> str:
    """The same of a text encoder in memory, fp32 or fp16, as if it were saved as one file."""

    def tensors() -> Iterator[tuple[str, Sequence[int], bytes]]:
        for name in sorted(weights, key=plain_name):
            tensor = weights[name].detach()
            if tensor.is_floating_point():
                yield name, tensor.shape, tensor.half().cpu().contiguous().numpy().tobytes()

    return half_digest(tensors())


def layer_order(path: str) -> list[tuple[bool, int, str]]:
    """The sort key of layer paths, numbers as numbers: down, mid, up, which is the order of execution."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in path.split(".")]
