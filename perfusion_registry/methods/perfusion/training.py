"""Perfusion as it is learned: Eq. 3 in every layer, and i* estimated online (Section 4.4, Algorithm 1).

A recipe that asks for a personalised residual learns it in the same loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Generator, Tensor

from perfusion_registry.base import block_widths
from perfusion_registry.edit import CovarianceMetric, packed
from perfusion_registry.methods.embeddings import embedding_groups, embedding_tensors, embeddings_of
from perfusion_registry.methods.encoding import PromptEncoder
from perfusion_registry.methods.perfusion.key_lock import KeyLock
from perfusion_registry.methods.perfusion.options import TrainOptions
from perfusion_registry.methods.perfusion.own_word import own_similarity
from perfusion_registry.methods.perfusion.tensors import (
    OFFSET,
    OUTPUT,
    OUTPUT_KEY,
    TARGET_INPUT,
    TARGET_INPUT_DUAL,
)
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.methods.residuals.tensors import kept_residual, residual_of, residual_tensors
from perfusion_registry.methods.residuals.training import new_residual
from perfusion_registry.methods.trainable import Tensors, Trainable
from perfusion_registry.recipe.options import TrainingOptions

if TYPE_CHECKING:
    from perfusion_registry.base import Base, Conditioning, Factors

DECAY = 0.99
"""Of the moving average that estimates i* (Section 4.4)."""
OUTPUTS = "outputs"


class PerfusionTrainable(Trainable):
    """The learned parameters, `embedding` (d_token,) of each text encoder, `outputs` (L,), the learned
    columns of o* in bank order, and a residual; moving beside them `target_input` (d,), i*.
    """

    def __init__(
        self, base: Base, lock: KeyLock, metric: CovarianceMetric, options: TrainOptions, generator: Generator
    ) -> None:
        """Start from what the supercategory gives: its embeddings, outputs and encoding."""
        self.base, self.lock, self.metric, self.options = base, lock, metric, options
        frozen = not options.learning_rate_embedding
        starts = [start.detach().float().clone() for start in lock.embeddings]
        self.embeddings = tuple(start.requires_grad_(not frozen) for start in starts)
        self._encoder = PromptEncoder(base, self.embeddings)
        self.outputs = lock.outputs[lock.learned].detach().float().clone().requires_grad_()
        self.residual: Factors = {}
        if share := options.residual_rank:
            widths = block_widths(base.residual_blocks)
            self.residual = new_residual(widths, share, generator, base.device)
        own = embedding_tensors(self.embeddings)
        self.parameters = {
            **({} if frozen else own),
            OUTPUTS: self.outputs,
            **residual_tensors(self.residual),
        }
        self.moving = {TARGET_INPUT: lock.encoding.detach().float().clone(), **(own if frozen else {})}

    @classmethod
    def begin(
        cls,
        base: Base,
        word: str,
        metric: CovarianceMetric | None,
        options: TrainingOptions,
        generator: Generator,
    ) -> Self:
        """A concept before its first step, locked to the supercategory `word`."""
        own = TrainOptions.of(options)
        assert metric is not None
        return cls(base, KeyLock.to(base, word, trained_keys=own.trained_keys), metric, own, generator)

    @property
    def groups(self) -> list[dict[str, Any]]:
        """Embeddings, outputs and residual, each at a rate of its own."""
        options = self.options
        groups: list[dict[str, Any]] = [{"params": [self.outputs], "lr": options.learning_rate_output}]
        if options.learning_rate_embedding:
            rate = options.learning_rate_embedding
            groups = [*embedding_groups(self.base, self.embeddings, rate), *groups]
        if self.residual:
            learned = [factor for factors in self.residual.values() for factor in factors]
            groups.append({"params": learned, "lr": options.learning_rate_residual})
        return groups

    def identity(self) -> tuple[str, Sequence[Tensor]]:
        """C, and what the supercategory gives."""
        return "", (self.metric.C, self.lock.outputs)

    def packed(
        self, prompts: Conditioning, target_input: Tensor, outputs: Tensor, places: Sequence[int] = ()
    ) -> Tensor:
        """Eq. 3 with the training gate.

        prompts: U of them, encoded, (U, n, d). target_input: (d,), i*. outputs: (L,), the learned columns of
        o*. places: U, the concept's token in each prompt, none where no prompt calls it; Eq. 3 finds it by
        itself. Returns (U, n, D).
        """
        i = target_input[None]
        bias, temperature = i.new_tensor([self.options.bias]), i.new_tensor([self.options.temperature])
        o = self.lock.target_output(outputs)[None]  # (1, D)
        v, W = self.metric.dual(i), self.base.bank.W
        return packed(prompts.states, W, i, v, o, bias, temperature, mask=prompts.mask)

    def condition(self, prompts: Prompts, rows: Sequence[int], inverse: Tensor) -> Conditioning:
        """As in Algorithm 1, i* moves before it is used, and no gradient flows to it."""
        encoded, e = self._encoder.encode(prompts, rows)  # e: (U, d)
        e_concept = e.detach()[inverse].mean(0)
        i = DECAY * self.moving[TARGET_INPUT] + (1 - DECAY) * e_concept
        self.moving[TARGET_INPUT] = i
        places = [prompts.positions[row] for row in rows]
        h = self.packed(encoded, i, self.outputs, places)  # (U, n, D)
        return encoded.with_states(h).rows(inverse)

    def prepare(self, prompts: Prompts) -> bool:
        """Encode all prompts where no embedding is learned."""
        return self._encoder.prepare(prompts)

    def conditioned(self, state: Tensors, prompts: Prompts) -> tuple[Conditioning, Conditioning]:
        """Both with the training gate and the local lock; the empty prompt goes through the edit too."""
        base = self.base
        empty = base.encode([base.tokenise([])])
        outputs, i, *embeddings = (
            tensor.to(base.bank.device)
            for tensor in (state[OUTPUTS], state[TARGET_INPUT], *embeddings_of(state))
        )
        called, _ = prompts.encode(base, range(len(prompts.tokens)), embeddings)
        return (
            called.with_states(self.packed(called, i, outputs, prompts.positions)),
            empty.with_states(self.packed(empty, i, outputs)),
        )

    def factors(self, state: Tensors) -> Factors:
        """The residual; none where none is learned."""
        return residual_of(state)

    def found(self, state: Tensors, prompts: Prompts) -> dict[str, float]:
        """The similarity of Eq. 4 at the concept's own word, the mean over its training prompts: how far a
        gate opens where the concept is called. To the four digits that a card keeps."""
        i = state[TARGET_INPUT]
        own = own_similarity(self.base, prompts, embeddings_of(state), i, self.metric.dual(i))
        return {"similarity": own}

    def tensors(self, state: Tensors) -> dict[str, Tensor]:
        """See `methods.perfusion.tensors`."""
        return self._kept(state, self.lock.outputs.cpu(), OFFSET)

    def format_1_tensors(self, state: Tensors) -> dict[str, Tensor]:
        """With o*_V as it is."""
        return self._kept(state, torch.zeros(()), OUTPUT)

    def _kept(self, state: Tensors, start: Tensor, prefix: str) -> dict[str, Tensor]:
        """start: (D,), what o*_V is kept as the difference from, under the names that begin with `prefix`."""
        learned = self.lock.learned.cpu()
        outputs = torch.zeros(len(learned)).masked_scatter(learned, state[OUTPUTS])  # (D,)
        i = state[TARGET_INPUT]
        kept = embedding_tensors(embeddings_of(state))
        kept |= {TARGET_INPUT: i, TARGET_INPUT_DUAL: self.metric.dual(i)}
        values = outputs - start
        for layer in self.base.bank.layers:
            kept[f"{prefix}{layer.path}"] = values[layer.value_slice].half()
            if self.options.trained_keys:
                kept[f"{OUTPUT_KEY}{layer.path}"] = outputs[layer.key_slice].half()
        return kept | kept_residual(state)
