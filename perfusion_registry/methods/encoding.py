"""Prompts of a training as its text encoders read them: at each step, or once where no word is learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_registry.methods.prompts import Prompts

if TYPE_CHECKING:
    from perfusion_registry.base import Base, Conditioning


class PromptEncoder:
    """Encodes a training's prompts with a concept's own embeddings, (d_token,) of each text encoder, none
    where its calls are words of the base."""

    def __init__(self, base: Base, embeddings: Sequence[Tensor]) -> None:
        self.base, self.embeddings = base, embeddings
        self._encoded: tuple[Conditioning, Tensor] | None = None

    def prepare(self, prompts: Prompts) -> bool:
        """Encode all prompts where no embedding is learned: they stay what they are. Returns whether a step
        asks the text encoders all the same."""
        if any(own.requires_grad for own in self.embeddings):
            return True
        with torch.no_grad():
            self._encoded = prompts.encode(self.base, range(len(prompts.tokens)), self.embeddings)
        return False

    def encode(self, prompts: Prompts, rows: Sequence[int]) -> tuple[Conditioning, Tensor]:
        """The prompts of these rows and the encodings of the concept in them, as `Prompts.encode` has
        them."""
        if self._encoded is None:
            return prompts.encode(self.base, rows, self.embeddings)
        every, e = self._encoded
        return every.rows(rows), e[list(rows)]
