"""A perfusion concept on a base of another family: i* encoded anew, in the new metric, and the rest carried.

| tensor | what becomes of it |
|---|---|
| `embedding` ... | carried: the new text encoder reads the word that was learned |
| `target_input` | i* encoded anew, as the moving average of the training would have it |
| `target_input_dual` | C^-1 i* with the new base's C |
| `offset.<layer path>` | carried: drawing adds the new base's own `W_V e_supercategory` |
| `output_key.<layer path>` | the difference from `W_K e_supercategory` is carried; it needs the old base |
| `output.<layer path>` | (format 1) becomes an offset; it needs the old base |
| `residual_down`, `residual_up` | carried as they are |

Locked keys are nobody's tensors: they are `W_K e_supercategory` of whatever base draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_registry.edit import CovarianceMetric, similarity
from perfusion_registry.methods.embeddings import embeddings_for
from perfusion_registry.methods.fitting import require_fit, unlike
from perfusion_registry.methods.perfusion.key_lock import KeyLock
from perfusion_registry.methods.perfusion.options import Built, TrainOptions
from perfusion_registry.methods.perfusion.tensors import (
    OFFSET,
    OUTPUT,
    OUTPUT_KEY,
    TARGET_INPUT,
    TARGET_INPUT_DUAL,
    offsets,
    output_keys,
    outputs,
)
from perfusion_registry.methods.perfusion.training import DECAY
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.methods.transfer import Learned, Transferred

if TYPE_CHECKING:
    from perfusion_registry.base import Base


@torch.no_grad()
def transferred(
    learned: Learned, base: Base, metric: CovarianceMetric, before: Base | None = None
) -> Transferred:
    """See `Method.transferred`. In fp32 on the CPU, but for what is kept in fp16."""
    tensors = learned.tensors
    values = offsets(tensors) or outputs(tensors)
    require_fit(learned, base, {path: len(value) for path, value in values.items()})
    if tensors[TARGET_INPUT].shape != (base.bank.width,):
        raise unlike(learned.name, base, "encodings")
    own = _called(base, learned)  # (U, d)
    i = _target_input(base, learned, own)
    if before is not None:  # what the average kept of its way is carried too
        i = tensors[TARGET_INPUT] + (i - _target_input(before, learned, _called(before, learned)))
    v = metric.dual(i)
    kept = {key: value for key, value in tensors.items() if not key.startswith((OUTPUT, OUTPUT_KEY))}
    kept |= {TARGET_INPUT: i, TARGET_INPUT_DUAL: v}
    if outputs(tensors) or output_keys(tensors):
        assert before is not None
        kept |= _outputs(learned, base, before)
    found = round(float(similarity(own, i[None], v[None]).mean()), 4)
    moved = float((i - tensors[TARGET_INPUT]).norm() / tensors[TARGET_INPUT].norm())
    return Transferred(kept, {"similarity": found}, round(moved, 4))


def _called(base: Base, learned: Learned) -> Tensor:
    """The encodings (U, d) of the concept's own word in the U prompts that it was learned in."""
    assert isinstance(learned.train, TrainOptions)
    prompts = Prompts.of(base, learned.train.templates, learned.word)
    embeddings = [
        embedding.to(base.text_device) for embedding in embeddings_for(base, learned.tensors, learned.name)
    ]
    _, e = prompts.encode(base, range(len(prompts.tokens)), embeddings)
    return e.float().cpu()


def _target_input(base: Base, learned: Learned, own: Tensor) -> Tensor:
    """i* (d,) as the training's moving average has it: it began at the supercategory's encoding, and saw
    encodings that went, evenly, from there to the concept's own.

    own: (U, d), of `_called`.
    """
    assert isinstance(learned.built, Built)
    start = KeyLock.to(base, learned.word, trained_keys=False).encoding.float().cpu()
    share = share_of_start(learned.built.step)
    return share * start + (1 - share) * own.mean(0)


def share_of_start(steps: int) -> float:
    """How much of its start is in a moving average of values that went evenly from there to their end.

    Value t of T is (1 - t/T) of the start and t/T of the end. 1 where there were no steps.
    """
    share = 1.0
    for step in range(1, steps + 1):
        share = DECAY * share + (1 - DECAY) * (1 - step / steps)
    return share


def _outputs(learned: Learned, base: Base, before: Base) -> dict[str, Tensor]:
    """What is kept of target outputs that the old base's own are a part of, by their names."""
    old, new = (
        KeyLock.to(each, learned.word, trained_keys=False).outputs.float().cpu() for each in (before, base)
    )
    kept = {}
    layers = {layer.path: layer for layer in before.bank.layers}
    for path, value in outputs(learned.tensors).items():
        kept[f"{OFFSET}{path}"] = (value.float() - old[layers[path].value_slice]).half()
    for path, value in output_keys(learned.tensors).items():
        columns = layers[path].key_slice
        kept[f"{OUTPUT_KEY}{path}"] = (value.float() + (new[columns] - old[columns])).half()
    return kept
