"""Custom Diffusion as it is learned: keys and values of cross-attention, whole, and the rare word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from perfusion_registry.edit import CovarianceMetric
from perfusion_registry.methods import rare_word
from perfusion_registry.methods.calls import CallWords
from perfusion_registry.methods.custom_diffusion.options import TrainOptions
from perfusion_registry.methods.embeddings import embedding_groups, embedding_tensors, embeddings_of
from perfusion_registry.methods.encoding import PromptEncoder
from perfusion_registry.methods.prompts import TARGET_PROMPT, Prompts
from perfusion_registry.methods.trainable import Tensors, Trainable

if TYPE_CHECKING:
    from perfusion_registry.base import Base, Conditioning

CHANGE = "change"


def compressed(change: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """The greatest singular values of a change (m', m), as many as have at most `share` of their sum, one at
    least. Returns A (r, m) and B (m', r)."""
    u, s, vt = torch.linalg.svd(change.double(), full_matrices=False)
    rank = max(1, int((s.cumsum(0) <= share * s.sum()).sum()))
    return vt[:rank].float(), (u[:, :rank] * s[:rank]).float()


class CustomTrainable(Trainable):
    """The learned difference of W (D, d), and the rare word's embedding of each text encoder."""

    def __init__(
        self, base: Base, word: str, metric: CovarianceMetric, options: TrainOptions, call: CallWords | None
    ) -> None:
        """Start as the base itself."""
        self.base, self.metric, self.options = base, metric, options
        self._own = Prompts.of(base, [TARGET_PROMPT], word, call=call)
        self._word = tuple(one.clone().requires_grad_() for one in rare_word.start_of(base, options))
        self._encoder = PromptEncoder(base, self._word)
        self._change = torch.zeros_like(base.bank.W).requires_grad_()
        self.parameters = {CHANGE: self._change, **embedding_tensors(self._word)}
        self.moving = {}

    @property
    def groups(self) -> list[dict[str, Any]]:
        """One rate for all; of the word by the spread of each table."""
        rate = self.options.learning_rate
        own = embedding_groups(self.base, self._word, rate) if self._word else []
        return [{"params": [self._change], "lr": rate}, *own]

    def identity(self) -> tuple[str, Sequence[Tensor]]:
        """Where the word starts."""
        return "custom diffusion", [one.detach() for one in self._word]

    def condition(self, prompts: Prompts, rows: Sequence[int], inverse: Tensor) -> Conditioning:
        """What the changed K and V projections make of the prompts."""
        encoded, _ = self._encoder.encode(prompts, rows)
        return self._packed(encoded, self._change).rows(inverse)

    def prepare(self, prompts: Prompts) -> bool:
        """Encode all prompts where no word is learned."""
        return self._encoder.prepare(prompts)

    def conditioned(self, state: Tensors, prompts: Prompts) -> tuple[Conditioning, Conditioning]:
        """With the word and the change of the state, the empty prompt's too."""
        base = self.base
        change = state[CHANGE].to(base.bank.W)
        called, _ = prompts.encode(base, range(len(prompts.tokens)), self._embeddings(state))
        return self._packed(called, change), self._packed(base.encode([base.tokenise([])]), change)

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
            encoded, _ = self._own.encode(self.base, [0], self._embeddings(state))
        inputs = encoded.states[0, list(self._own.tokens[0].concept_tokens[0])].detach().float().cpu()
        duals = self.metric.dual(inputs.to(encoded.states)).float().cpu()
        kept |= {"merge_input": inputs.contiguous(), "merge_dual": duals.contiguous()}
        return kept | rare_word.word_tensors(dict(enumerate(embeddings_of(state))))

    def _embeddings(self, state: Tensors) -> list[Tensor]:
        return [one.to(self.base.text_device) for one in embeddings_of(state)]

    def _packed(self, prompts: Conditioning, change: Tensor) -> Conditioning:
        return prompts.with_states(prompts.states @ (self.base.bank.W + change).T)

    def _layers(self, change: Tensor) -> Mapping[str, Tensor]:
        return {
            f"{layer.path}.{name}": change[rows]
            for layer in self.base.bank.layers
            for name, rows in (("to_k", layer.key_slice), ("to_v", layer.value_slice))
        }
