"""Textual inversion as it is learned: one token embedding for each text encoder, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from perfusion_registry.methods.embeddings import embedding_tensors, embeddings_of, word_embeddings
from perfusion_registry.methods.prompts import TARGET_PROMPT, Prompts, pieces
from perfusion_registry.methods.textual_inversion.options import TrainOptions
from perfusion_registry.methods.trainable import Tensors, Trainable

if TYPE_CHECKING:
    from perfusion_registry.base import Base, Conditioning


class InversionTrainable(Trainable):
    """The learned embedding v* (d_token,) of each text encoder, which starts at the supercategory's."""

    def __init__(self, base: Base, word: str, options: TrainOptions) -> None:
        row = base.tokenise(pieces(TARGET_PROMPT, word, spelled=True))
        self.base, self.rate = base, options.learning_rate
        starts = word_embeddings(base, row)
        self.embeddings = tuple(start.clone().requires_grad_() for start in starts)
        self.parameters = embedding_tensors(self.embeddings)
        self.moving = {}

    @property
    def groups(self) -> list[dict[str, Any]]:
        """One rate for all."""
        return [{"params": [*self.embeddings], "lr": self.rate}]

    def identity(self) -> tuple[str, Sequence[Tensor]]:
        """Where it starts."""
        return "textual inversion", [tensor.detach() for tensor in self.embeddings]

    def condition(self, prompts: Prompts, rows: Sequence[int], inverse: Tensor) -> Conditioning:
        """What every K and V projection makes of the prompts, unedited."""
        encoded, _ = prompts.encode(self.base, rows, self.embeddings)
        return _packed(self.base, encoded).rows(inverse)

    def conditioned(self, state: Tensors, prompts: Prompts) -> tuple[Conditioning, Conditioning]:
        """The empty prompt is the base's own."""
        base = self.base
        embeddings = [tensor.to(base.device) for tensor in embeddings_of(state)]
        called, _ = prompts.encode(base, range(len(prompts.tokens)), embeddings)
        return _packed(base, called), _packed(base, base.encode([base.tokenise([])]))

    def tensors(self, state: Tensors) -> dict[str, Tensor]:
        """The embeddings."""
        return embedding_tensors(embeddings_of(state))


def _packed(base: Base, encoded: Conditioning) -> Conditioning:
    """E W^T, (B, n, D)."""
    return encoded.with_states(encoded.states @ base.bank.W.T)
