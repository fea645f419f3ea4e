"""DreamBooth with LoRA as it is learned: low-rank changes of all attention of the denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn

from perfusion_registry.base.quantised import widths
from perfusion_registry.methods import low_rank, rare_word
from perfusion_registry.methods.dreambooth_lora.options import TrainOptions
from perfusion_registry.methods.embeddings import embedding_groups, embedding_tensors, embeddings_of
from perfusion_registry.methods.encoding import PromptEncoder
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.methods.trainable import Tensors, Trainable

if TYPE_CHECKING:
    from perfusion_registry.base import Base, Changes, Conditioning

LAYERS = ("to_q", "to_k", "to_v", "to_out.0")
"""The layers of each attention that diffusers' script changes: it gives peft these names."""


def attention_layers(base: Base) -> dict[str, tuple[int, int]]:
    """What all projections of all attention in the denoiser write and read, (m', m), by path."""
    return {
        path: widths(module)
        for path, module in base.denoiser.named_modules()
        if isinstance(module, nn.Linear) and any(path.endswith(f".{layer}") for layer in LAYERS)
    }


class DreamboothTrainable(Trainable):
    """The learned A (r, m) and B (m', r) of each layer; the rare word's embedding where that is learned."""

    def __init__(self, base: Base, options: TrainOptions, generator: Generator) -> None:
        """A as peft draws it (`init_lora_weights="gaussian"`, of standard deviation 1 / r), B zero."""
        self.base, self.rate = base, options.learning_rate
        self._word = tuple(one.clone().requires_grad_() for one in rare_word.start_of(base, options))
        self._encoder = PromptEncoder(base, self._word)
        factors, r = {}, options.rank
        for path, (out, into) in attention_layers(base).items():
            down = (torch.randn(r, into, generator=generator) / r).to(base.device)
            up = torch.zeros(out, r, device=base.device)
            factors[path] = (down.requires_grad_(), up.requires_grad_())
        self.parameters = low_rank.factor_tensors(factors)
        self._factors = [*self.parameters.values()]
        self.parameters |= embedding_tensors(self._word)
        self.moving = {}

    @property
    def groups(self) -> list[dict[str, Any]]:
        """One rate for all; of the word by the spread of each table."""
        own = embedding_groups(self.base, self._word, self.rate) if self._word else []
        return [{"params": self._factors, "lr": self.rate}, *own]

    def identity(self) -> tuple[str, Sequence[Tensor]]:
        """Where the word starts."""
        return "dreambooth lora", [one.detach() for one in self._word]

    def condition(self, prompts: Prompts, rows: Sequence[int], inverse: Tensor) -> Conditioning:
        """With the changes of K and V; those of other layers are attached beside them."""
        encoded, _ = self._encoder.encode(prompts, rows)
        return low_rank.packed(self.base, encoded, low_rank.changes_in(self.parameters)).rows(inverse)

    def prepare(self, prompts: Prompts) -> bool:
        """Encode all prompts where no word is learned."""
        return self._encoder.prepare(prompts)

    def conditioned(self, state: Tensors, prompts: Prompts) -> tuple[Conditioning, Conditioning]:
        """With the word and the changes of the state, the empty prompt's too."""
        base, changes = self.base, low_rank.changes_in(state)
        embeddings = [one.to(base.text_device) for one in embeddings_of(state)]
        called, _ = prompts.encode(base, range(len(prompts.tokens)), embeddings)
        empty = base.encode([base.tokenise([])])
        return low_rank.packed(base, called, changes), low_rank.packed(base, empty, changes)

    def changes(self, state: Tensors) -> Changes:
        """Those of layers that do not read text."""
        return low_rank.beside_text(self.base, low_rank.changes_in(state))

    def tensors(self, state: Tensors) -> dict[str, Tensor]:
        """See `methods.low_rank` and `methods.rare_word`."""
        return low_rank.kept_factors(state) | rare_word.word_tensors(dict(enumerate(embeddings_of(state))))
