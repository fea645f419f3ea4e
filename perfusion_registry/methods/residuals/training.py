"""Residuals as they are learned: low-rank factors, of the blocks' projections or of keys and values, and
perhaps the rare word."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from perfusion_registry.base import block_widths, module_at
from perfusion_registry.base.quantised import widths
from perfusion_registry.methods import low_rank
from perfusion_registry.methods.embeddings import embeddings_of_word
from perfusion_registry.methods.rare_word_training import RareWordTrainable
from perfusion_registry.methods.residuals.options import TrainOptions
from perfusion_registry.methods.residuals.tensors import kept_residual, residual_of, residual_tensors
from perfusion_registry.methods.trainable import Tensors

if TYPE_CHECKING:
    from perfusion_registry.base import Base, Changes, Conditioning, Factors


def new_residual(
    widths: Mapping[str, tuple[int, int]],
    share: float,
    generator: Generator,
    device: torch.device,
    *,
    zero: bool = True,
) -> Factors:
    """A and B of each module, to be learned.

    widths: what each writes and reads, (m', m), by path. share: the rank as a part of m'. zero: whether B
    starts at zero, so that the first step is that of the base itself, or as a linear layer of r inputs does.
    Returns A (r, m) and B (m', r) by path.
    """
    residual: dict[str, tuple[Tensor, Tensor]] = {}
    for path, (out, into) in widths.items():
        rank = max(1, round(share * out))
        if zero:
            down = (torch.randn(rank, into, generator=generator) / into**0.5).to(device)
            up = torch.zeros(out, rank, device=device)
        else:
            down = _as_linear(rank, into, generator).to(device)
            up = _as_linear(out, rank, generator).to(device)
        residual[path] = (down.requires_grad_(), up.requires_grad_())
    return residual


def _as_linear(out: int, into: int, generator: Generator) -> Tensor:
    """A weight (out, into) as torch starts a linear layer's: uniform within 1 / sqrt(into)."""
    drawn: Tensor = 2 * torch.rand(out, into, generator=generator) - 1
    return drawn / math.sqrt(into)


def module_widths(base: Base, options: TrainOptions) -> dict[str, tuple[int, int]]:
    """The modules beside the output projections that learn a residual, and their widths (m', m), by path."""
    found: dict[str, tuple[int, int]] = {}
    if "proj_in" in options.targets:
        for block in base.residual_blocks:
            path = f"{block.path}.proj_in"
            module = module_at(base.denoiser, path)
            if module is not None:
                found[path] = widths(module)
    if "kv" in options.targets:
        found |= low_rank.key_and_value_widths(base)
    return found


class ResidualTrainable(RareWordTrainable):
    """The learned A (r, m) and B (m', r) of each block or module, and the rare word's embedding where that is
    learned."""

    def __init__(self, base: Base, word: str, options: TrainOptions, generator: Generator) -> None:
        """Start as the options say."""
        zero, place = options.start == "zero", (generator, base.device)
        blocks = block_widths(base.residual_blocks) if "proj_out" in options.targets else {}
        learned = residual_tensors(new_residual(blocks, options.rank, *place, zero=zero))
        beside = new_residual(module_widths(base, options), options.rank, *place, zero=zero)
        learned |= low_rank.factor_tensors(beside)
        # Without a rare word calls are one token with the supercategory's own embedding.
        frozen = () if options.token else embeddings_of_word(base, word)
        super().__init__(base, options, options.learning_rate, learned, frozen=frozen)

    def identity(self) -> tuple[str, Sequence[Tensor]]:
        """The supercategory's embeddings, or where the word starts."""
        start = [one.detach() for one in self.word]
        return "residuals", [*self.frozen, *start, *(one.detach() for one in self.learned[:2])]

    def packed(self, prompts: Conditioning, state: Tensors) -> Conditioning:
        """With the changes of K and V."""
        return low_rank.packed(self.base, prompts, low_rank.changes_in(state))

    def factors(self, state: Tensors) -> Factors:
        """Those of output projections."""
        return residual_of(state)

    def changes(self, state: Tensors) -> Changes:
        """Those of input projections."""
        return low_rank.beside_text(self.base, low_rank.changes_in(state))

    def tensors(self, state: Tensors) -> dict[str, Tensor]:
        """See `methods.residuals.tensors`."""
        return kept_residual(state) | low_rank.kept_factors(state) | self.word_tensors(state)
