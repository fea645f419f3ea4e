"""How similar a concept's own word is to it, in the prompts that it was learned with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_registry.edit import similarity
from perfusion_registry.methods.contribution import vector
from perfusion_registry.methods.embeddings import embeddings_for
from perfusion_registry.methods.perfusion.options import DrawOptions, TrainOptions
from perfusion_registry.methods.perfusion.tensors import TARGET_INPUT, TARGET_INPUT_DUAL
from perfusion_registry.methods.prompts import Prompts

if TYPE_CHECKING:
    from perfusion_registry.base import Base


@torch.no_grad()
def own_similarity(base: Base, prompts: Prompts, embeddings: Sequence[Tensor], i: Tensor, v: Tensor) -> float:
    """The similarity of Eq. 4 at the concept's own word, the mean over its training prompts, to the four
    digits that a card keeps.

    embeddings: (d_token,) of each text encoder. i, v: (d,), the target input and its dual.
    """
    embeddings = [tensor.to(base.text_device) for tensor in embeddings]
    _, e = prompts.encode(base, range(len(prompts.tokens)), embeddings)  # (U, d)
    return round(float(similarity(e, i.to(e)[None], v.to(e)[None]).mean()), 4)


def absolute_bias(
    base: Base, tensors: Mapping[str, Tensor], name: str, word: str, train: TrainOptions, draw: DrawOptions
) -> float:
    """beta_j of Eq. 4: the bias as it is said, or a relative one times the similarity of the concept's own
    word.

    That is measured anew, which takes its training prompts once through the text encoder, so that artifacts
    whose card does not say it are drawn alike. A concept whose word is unlike it has a bias of 0.
    """
    if draw.relative_bias is None:
        assert draw.bias is not None
        return draw.bias
    d = base.bank.width
    i, v = (vector(tensors, key, d, name) for key in (TARGET_INPUT, TARGET_INPUT_DUAL))
    prompts = Prompts.of(base, train.templates, word)
    own = own_similarity(base, prompts, embeddings_for(base, tensors, name), i, v)
    return draw.relative_bias * max(own, 0.0)
