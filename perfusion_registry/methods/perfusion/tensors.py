"""What a perfusion concept keeps.

| tensor | meaning | shape | type |
|---|---|---|---|
| `target_input` | i* | (d,) | fp32 |
| `target_input_dual` | v = C^-1 i* | (d,) | fp32 |
| `offset.<layer path>` | o*_V of one cross-attention layer, less `W_V e` | (its V width,) | fp16 |
| `output_key.<layer path>` | o*_K, only where keys were trained | (its K width,) | fp16 |

and in format 1, which is read for good, in the place of every offset

| tensor | meaning | shape | type |
|---|---|---|---|
| `output.<layer path>` | o*_V | (its V width,) | fp16 |

beside its token embeddings (`methods.embeddings`) and, where one was learned, a residual
(`methods.residuals.tensors`).

e is the encoding of the supercategory's last token in "a photo of a <supercategory>". Training begins at
`W e` and learns what is added to it, which says something on other bases of the same shapes too; drawing adds
the base's own `W_V e` to the offset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from perfusion_registry.methods import embeddings
from perfusion_registry.methods.interface import PATH, TensorRule
from perfusion_registry.methods.residuals import tensors as residuals

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.methods.perfusion.options import TrainOptions

TARGET_INPUT = "target_input"
TARGET_INPUT_DUAL = "target_input_dual"
OFFSET = "offset."
OUTPUT = "output."
OUTPUT_KEY = "output_key."
VECTORS = (TARGET_INPUT, TARGET_INPUT_DUAL)
RULES = (
    embeddings.RULE,
    TensorRule(rf"({'|'.join(VECTORS)})", dimensions=1, half=False),
    TensorRule(rf"(offset|output|output_key)\.{PATH}", dimensions=1, half=True),
    residuals.RULE,
)


def offsets(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """o*_V less `W_V e` by layer path, each (its V width,); empty in format 1."""
    return _below(OFFSET, tensors)


def outputs(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """o*_V by layer path, each (its V width,), as format 1 keeps it; empty in format 2."""
    return _below(OUTPUT, tensors)


def output_keys(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Trained o*_K by layer path, each (its K width,); empty where the keys are locked."""
    return _below(OUTPUT_KEY, tensors)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def mistake(train: TrainOptions, tensors: Mapping[str, Tensor]) -> str | None:
    """What keeps tensors that follow `RULES` from being those of a concept trained so; None where nothing
    does.
    """
    mistake = embeddings.mistake(tensors)
    if mistake is not None:
        return mistake
    for key in VECTORS:
        if key not in tensors:
            return f"the tensor `{key}` is missing"
    if tensors[TARGET_INPUT].shape != tensors[TARGET_INPUT_DUAL].shape:
        return f"`{TARGET_INPUT}` and `{TARGET_INPUT_DUAL}` differ in length"
    if float(tensors[TARGET_INPUT].double() @ tensors[TARGET_INPUT_DUAL].double()) <= 0:
        return "the energy of its target input is not positive"
    values = offsets(tensors).keys() or outputs(tensors).keys()
    if not values:
        return "it has no target outputs"
    if offsets(tensors) and outputs(tensors):
        return "it has target outputs of both formats"
    if output_keys(tensors).keys() != (values if train.trained_keys else set()):
        return "its trained keys do not match its card"
    if not residuals.is_whole(tensors, learned=train.residual_rank > 0):
        return "its residual is not whole, or does not match its card"
    return None
