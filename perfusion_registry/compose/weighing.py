"""How much each token of a prompt counts: the weights of its brackets, token by token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from perfusion_registry.base import Tokens
from perfusion_registry.compose.pieces import Prompt


def token_weights(prompts: Sequence[Prompt], tokens: Sequence[Tokens], E: Tensor) -> Tensor | None:
    """What the encodings E (B, n, d) of B prompts are multiplied by before the edit, (B, n) in E's format;
    None where all of it is 1.

    tokens: of each prompt; what is beyond them, start, end and padding have a weight of 1.
    """
    if not any(prompt.weighted for prompt in prompts):
        return None
    weights = torch.ones(E.shape[:2])
    for row, prompt, read in zip(weights, prompts, tokens, strict=True):
        for position, piece in enumerate(read.pieces):
            if piece is not None:
                row[position] = prompt.said[piece][1]
    return weights.to(E)
