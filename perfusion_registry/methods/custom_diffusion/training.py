"""Custom Diffusion as it is learned: keys and values of cross-attention, whole, and the rare word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_registry.edit import CovarianceMetric
from perfusion_registry.methods.calls import CallWords
from perfusion_registry.methods.custom_diffusion.options import TrainOptions
from perfusion_registry.methods.prompts import TARGET_PROMPT, Prompts
from perfusion_registry.methods.rare_word_training import RareWordTrainable
from perfusion_registry.methods.trainable import Tensors

if TYPE_CHECKING:
    from perfusion_registry.base import Base, Conditioning

CHANGE = "change"


def compressed(change: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """The greatest singular values of a change (m', m), as many as have at most `share` of their sum, one at
    least. Returns A (r, m) and B (m', r)."""
    u, s, vt = torch.linalg.svd(change.double(), full_matrices=False)
    rank = max(1, int((s.cumsum(0) <= share * s.sum()).sum()))
    return vt[:rank].float(), (u[:, :rank] * s[:rank]).float()


class CustomTrainable(RareWordTrainable):
    """The learned difference of W (D, d), and the rare word's embedding of each text encoder."""

    def __init__(
        self, base: Base, word: str, metric: CovarianceMetric, options: TrainOptions, call: CallWords | None
    ) -> None:
        """Start as the base itself."""
        self.metric, self.options = metric, options
        self._own = Prompts.of(base, [TARGET_PROMPT], word, call=call)
        change = torch.zeros_like(base.bank.W).requires_grad_()
        super().__init__(base, options, options.learning_rate, {CHANGE: change})

    def identity(self) -> tuple[str, Sequence[Tensor]]:
        """Where the word starts."""
        return "custom diffusion", [one.detach() for one in self.word]

    def packed(self, prompts: Conditioning, state: Tensors) -> Conditioning:
        """With the difference of the state."""
        W = self.base.bank.W
        return prompts.with_states(prompts.states @ (W + state[CHANGE].to(W)).T)

    def tensors(self, state: Tensors) -> dict[str, Tensor]:
        """See `methods.custom_diffusion`."""
        kept: dict[str, Tensor] = {}
        for path, change in self._layers(state[CHANGE].detach().float().cpu()).items():
            if self.options.compressed == 1:
                kept[f"denoiser.{path}.diff"] = change.half().contiguous()
            else:
                down, up = compressed(change, self.options.compressed)
                kept[f"denoiser.{path}.lora_down"] = down.half().contiguous()
                kept[f"denoiser.{path}.lora_up"] = up.half().contiguous()
        with torch.no_grad():
            encoded, _ = self._own.encode(self.base, [0], self.embeddings(state))
        inputs = encoded.states[0, list(self._own.tokens[0].concept_tokens[0])].detach().float().cpu()
        duals = self.metric.dual(inputs.to(encoded.states)).float().cpu()
        kept |= {"merge_input": inputs.contiguous(), "merge_dual": duals.contiguous()}
        return kept | self.word_tensors(state)

    def _layers(self, change: Tensor) -> Mapping[str, Tensor]:
        return {
            f"{layer.path}.{name}": change[rows]
            for layer in self.base.bank.layers
            for name, rows in (("to_k", layer.key_slice), ("to_v", layer.value_slice))
        }
