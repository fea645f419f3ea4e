"""Residuals as they are learned: A drawn and B zero, so that the first step is that of the base itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor

from perfusion_registry.base import block_widths
from perfusion_registry.methods.embeddings import embeddings_of_word
from perfusion_registry.methods.prompts import Prompts, unedited
from perfusion_registry.methods.residuals.options import TrainOptions
from perfusion_registry.methods.residuals.tensors import kept_residual, residual_of, residual_tensors
from perfusion_registry.methods.trainable import Tensors, Trainable

if TYPE_CHECKING:
    from perfusion_registry.base import Base, Conditioning, Factors


def new_residual(
    widths: Mapping[str, tuple[int, int]], share: float, generator: Generator, device: torch.device
) -> Factors:
    """A and B of each transformer block, to be learned.

    widths: what each block's output projection writes and reads, (m', m), by path. share: the rank as a part
    of m'. Returns A (r, m) and B (m', r) by path.
    """
    residual: dict[str, tuple[Tensor, Tensor]] = {}
    for path, (out, into) in widths.items():
        rank = max(1, round(share * out))
        down = (torch.randn(rank, into, generator=generator) / into**0.5).to(device)
        up = torch.zeros(out, rank, device=device)
        residual[path] = (down.requires_grad_(), up.requires_grad_())
    return residual


class ResidualTrainable(Trainable):
    """The learned A (r, m) and B (m', r) of each transformer block; prompts say the supercategory."""

    def __init__(self, base: Base, word: str, options: TrainOptions, generator: Generator) -> None:
        """Start as the base itself."""
        self.base, self.rate = base, options.learning_rate
        self.embeddings = embeddings_of_word(base, word)
        widths = block_widths(base.residual_blocks)
        self.parameters = residual_tensors(new_residual(widths, options.rank, generator, base.device))
        self.moving = {}

    @property
    def groups(self) -> list[dict[str, Any]]:
        """One rate for all."""
        return [{"params": [*self.parameters.values()], "lr": self.rate}]

    def identity(self) -> tuple[str, Sequence[Tensor]]:
        """The supercategory's embeddings."""
        return "residuals", self.embeddings

    def condition(self, prompts: Prompts, rows: Sequence[int], inverse: Tensor) -> Conditioning:
        """What every K and V projection makes of the prompts; the residual is attached beside them."""
        encoded, _ = prompts.encode(self.base, rows, self.embeddings)
        return unedited(self.base, encoded).rows(inverse)

    def conditioned(self, state: Tensors, prompts: Prompts) -> tuple[Conditioning, Conditioning]:
        """Whatever the state: what is learned is not in the prompts."""
        base = self.base
        called, _ = prompts.encode(base, range(len(prompts.tokens)), self.embeddings)
        return unedited(base, called), unedited(base, base.encode([base.tokenise([])]))

    def factors(self, state: Tensors) -> Factors:
        """All that is learned."""
        return residual_of(state)

    def tensors(self, state: Tensors) -> dict[str, Tensor]:
        """See `methods.residuals.tensors`."""
        return kept_residual(state)
