"""Families: bases of one text encoder and the same cross-attention shapes, so that concepts transfer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfusion_registry.base.digest import remembered
from perfusion_registry.base.weights import (
    half_digest,
    half_precision_digest,
    plain_name,
    tensor_digests,
)

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
    # as T5 has them
    "d_model",
    "d_ff",
    "d_kv",
    "num_layers",
    "num_heads",
    "relative_attention_num_buckets",
    "relative_attention_max_distance",
    "feed_forward_proj",
    "layer_norm_epsilon",
    # as Qwen and Anima's conditioner have them
    "num_key_value_heads",
    "rms_norm_eps",
    "use_self_attention",
    "use_layer_norm",
    "min_sequence_length",
)


_T5_TABLE = {"encoder.embed_tokens.weight": "shared.weight"}


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


def model_digest(paths: Iterable[Path], prefix: str = "") -> str:
    """A digest of a model in one file or in several, however it is divided; fp16 copies have the same.

    prefix: of the names of the tensors that count, as of a module within a model.
    """
    kind = f"half of each tensor of {prefix or 'all'}"
    digests: dict[str, str] = {}
    for path in paths:
        digests |= json.loads(remembered(kind, path, lambda file: json.dumps(tensor_digests(file, prefix))))
    return _of_tensors(digests)


def live_model_digest(weights: Mapping[str, Tensor], prefix: str = "") -> str:
    """The same of a model in memory, fp32 or fp16."""
    return _of_tensors(
        {
            name: half_digest([("", tensor.shape, [_halves(tensor)])])
            for name, tensor in weights.items()
            if name.startswith(prefix) and tensor.is_floating_point()
        }
    )


def _of_tensors(digests: Mapping[str, str]) -> str:
    """digests: of each tensor, by name. T5's table has one of two names, or both, and Qwen's names begin with
    `model.` or not, by who saved it."""
    by_name = {_T5_TABLE.get(name, name.removeprefix("model.")): digest for name, digest in digests.items()}
    return hashlib.sha256(json.dumps(sorted(by_name.items())).encode()).hexdigest()


def live_text_digest(weights: Mapping[str, Tensor]) -> str:
    """The same of a text encoder in memory, fp32 or fp16, as if it were saved as one file."""

    def tensors() -> Iterator[tuple[str, Sequence[int], list[bytes]]]:
        for name in sorted(weights, key=plain_name):
            tensor = weights[name]
            if tensor.is_floating_point():
                yield name, tensor.shape, [_halves(tensor)]

    return half_digest(tensors())


def _halves(tensor: Tensor) -> bytes:
    data: bytes = tensor.detach().half().cpu().contiguous().numpy().tobytes()
    return data


def layer_order(path: str) -> list[tuple[bool, int, str]]:
    """The sort key of layer paths, numbers as numbers: down, mid, up, which is the order of execution."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in path.split(".")]
