"""Textual inversion as it is learned: one token embedding for each text encoder, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from perfusion_registry.methods.embeddings import (
    embedding_groups,
    embedding_tensors,
    embeddings_of,
    embeddings_of_word,
)
from perfusion_registry.methods.prompts import Prompts, unedited
from perfusion_registry.methods.textual_inversion.options import TrainOptions
from perfusion_registry.methods.trainable import Tensors, Trainable

if TYPE_CHECKING:
    from perfusion_registry.base import Base, Conditioning


class InversionTrainable(Trainable):
    """The learned embedding v* (d_token,) of each text encoder, which starts at the supercategory's."""

    def __init__(self, base: Base, word: str, options: TrainOptions) -> None:
        self.base, self.rate = base, options.learning_rate
        starts = embeddings_of_word(base, word)
        self.embeddings = tuple(start.clone().requires_grad_() for start in starts)
        self.parameters = embedding_tensors(self.embeddings)
        self.moving = {}

    @property
    def groups(self) -> list[dict[str, Any]]:
        """One rate for all, by the spread of each table."""
        return embedding_groups(self.base, self.embeddings, self.rate)

    def identity(self) -> tuple[str, Sequence[Tensor]]:
        """Where it starts."""
        return "textual inversion", [tensor.detach() for tensor in self.embeddings]

    def condition(self, prompts: Prompts, rows: Sequence[int], inverse: Tensor) -> Conditioning:
        """What every K and V projection makes of the prompts, unedited."""
        encoded, _ = prompts.encode(self.base, rows, self.embeddings)
        return unedited(self.base, encoded).rows(inverse)

    def conditioned(self, state: Tensors, prompts: Prompts) -> tuple[Conditioning, Conditioning]:
        """The empty prompt is the base's own."""
        base = self.base
        embeddings = [tensor.to(base.text_device) for tensor in embeddings_of(state)]
        called, _ = prompts.encode(base, range(len(prompts.tokens)), embeddings)
        return unedited(base, called), unedited(base, base.encode([base.tokenise([])]))

    def tensors(self, state: Tensors) -> dict[str, Tensor]:
        """The embeddings."""
        return embedding_tensors(embeddings_of(state))
