"""DreamBooth with LoRA as it is learned: low-rank changes of all attention of the denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

from perfusion_registry.base.quantised import widths
from perfusion_registry.methods import low_rank
from perfusion_registry.methods.dreambooth_lora.options import TrainOptions
from perfusion_registry.methods.rare_word_training import RareWordTrainable
from perfusion_registry.methods.trainable import Tensors

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


class DreamboothLoraTrainable(RareWordTrainable):
    """The learned A (r, m) and B (m', r) of each layer; the rare word's embedding where that is learned."""

    def __init__(self, base: Base, options: TrainOptions, generator: Generator) -> None:
        """A as peft draws it (`init_lora_weights="gaussian"`, of standard deviation 1 / r), B zero."""
        factors, r = {}, options.rank
        for path, (out, into) in attention_layers(base).items():
            down = (torch.randn(r, into, generator=generator) / r).to(base.device)
            up = torch.zeros(out, r, device=base.device)
            factors[path] = (down.requires_grad_(), up.requires_grad_())
        super().__init__(base, options, options.learning_rate, low_rank.factor_tensors(factors))

    def identity(self) -> tuple[str, Sequence[Tensor]]:
        """Where the word starts."""
        return "dreambooth lora", [one.detach() for one in self.word]

    def packed(self, prompts: Conditioning, state: Tensors) -> Conditioning:
        """With the changes of K and V; those of other layers are attached beside them."""
        return low_rank.packed(self.base, prompts, low_rank.changes_in(state))

    def changes(self, state: Tensors) -> Changes:
        """Those of layers that do not read text."""
        return low_rank.beside_text(self.base, low_rank.changes_in(state))

    def tensors(self, state: Tensors) -> dict[str, Tensor]:
        """See `methods.low_rank` and `methods.rare_word`."""
        return low_rank.kept_factors(state) | self.word_tensors(state)
