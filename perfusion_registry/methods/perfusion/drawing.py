"""What a perfusion concept brings to a prompt: its embeddings, its part of Eq. 4, and its residual."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from perfusion_registry.methods.contribution import Contribution, Target, vector
from perfusion_registry.methods.embeddings import embeddings_for
from perfusion_registry.methods.perfusion.options import DrawOptions, TrainOptions
from perfusion_registry.methods.perfusion.own_word import absolute_bias
from perfusion_registry.methods.perfusion.tensors import (
    OFFSET,
    OUTPUT,
    OUTPUT_KEY,
    TARGET_INPUT,
    TARGET_INPUT_DUAL,
    offsets,
)
from perfusion_registry.methods.prompts import TARGET_PROMPT, pieces
from perfusion_registry.methods.residuals.tensors import residual_of

if TYPE_CHECKING:
    from perfusion_registry.base import Base

SMALLEST_TEMPERATURE = 1e-6


def contribution(
    base: Base, tensors: Mapping[str, Tensor], name: str, word: str, train: TrainOptions, draw: DrawOptions
) -> Contribution:
    """What the concept `name` of the supercategory `word` brings, on the bank's device, in fp32.

    tensors: of its artifact. o*_K is recomputed from the base's own W_K, `W_K e_supercategory` (Section
    4.4), and o*_V from its own W_V and the offset that was learned; trained keys are used where the lock is
    `none`. Raises PerfError when it does not fit the base.
    """
    bank = base.bank
    row = base.tokenise(pieces(TARGET_PROMPT, word, spelled=True))
    e = base.encode([row]).states[0, row.concept_positions[0]]  # (d,)
    o = bank.emitted(e)  # (D,)
    kept_as_offsets = bool(offsets(tensors))
    for layer in bank.layers:
        keys, values = layer.key_slice, layer.value_slice
        key = f"{OFFSET if kept_as_offsets else OUTPUT}{layer.path}"
        learned = bank.here(vector(tensors, key, values.stop - values.start, name))
        o[values] = o[values] + learned if kept_as_offsets else learned
        if draw.key_lock == "none":
            o[keys] = bank.here(vector(tensors, f"{OUTPUT_KEY}{layer.path}", keys.stop - keys.start, name))
    target = Target(
        bank.here(vector(tensors, TARGET_INPUT, bank.width, name)),
        bank.here(vector(tensors, TARGET_INPUT_DUAL, bank.width, name)),
        o,
        absolute_bias(base, tensors, name, word, train, draw),
        max(draw.temperature, SMALLEST_TEMPERATURE),
        (train.bias, train.temperature),
        plain_keys=draw.key_lock == "global",
    )
    residual = residual_of(tensors) if draw.residual else {}
    return Contribution(embeddings_for(base, tensors, name), target, residual, draw.residual or 0.0)
