"""Keys of cross-attention that are read from other encodings than values, and what the pictures then show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTokenizer

from perfusion_registry.storybook2.recogniser import Look, Recogniser
from perfusion_registry.storybook2.training.encoding import tokenised
from perfusion_registry.storybook2.training.questions import Question


def nouns_of(tokenizer: CLIPTokenizer, asked: Sequence[Question]) -> Tensor:
    """The tokens (B, k) of the k nouns of each question, where they have one token each; -1 where a noun has
    several."""
    ground = tokenised(tokenizer, [question.wording for question in asked])[1]
    things = len(asked[0].things)
    found = np.full((len(asked), things), -1)
    for slot in range(things):
        own = ground == slot
        single = own.sum(1) == 1
        found[single, slot] = own[single].argmax(1)
    return torch.from_numpy(found)


@contextmanager
def keys_of(unet: UNet2DConditionModel, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within it, keys of cross-attention are read from the encodings (B, n, d) that `change` makes of the
    prompts', and values from the prompts'. The unguided half of a batch, which comes first, stays as it is.
    """

    def keys(module: nn.Module, given: tuple[Any, ...]) -> tuple[Tensor]:
        states: Tensor = given[0]
        unguided, guided = states.chunk(2)
        return (torch.cat([unguided, change(guided)]),)

    handles = [
        module.to_k.register_forward_pre_hook(keys)
        for name, module in unet.named_modules()
        if name.rpartition(".")[2] == "attn2"
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def look_for(recogniser: Recogniser, images: Tensor, asked: Sequence[Question]) -> tuple[Tensor, Tensor]:
    """Whether all k things are there (B,), and where each is, as distributions (B, k, 256)."""
    look: Look = recogniser.look(images)
    nouns = torch.tensor([[recogniser.labels.nouns.index(noun) for noun, _ in q.things] for q in asked])
    present = recogniser.present(look).gather(1, nouns) > 0
    return present.all(1), look.where[torch.arange(len(asked))[:, None], nouns]
