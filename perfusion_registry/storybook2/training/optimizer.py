"""One optimiser for all networks: Muon for the matrices between first and last layer, AdamW for the rest.

Side by side on the first edition's autoencoder for 75 s on two cores, Muon reached 18.7 dB where AdamW
reached 16.3.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from perfusion_registry.storybook2.training.muon import Muon

_FIRST_AND_LAST = (
    "conv_in.weight",
    "conv_out.weight",
    "quant_conv.weight",
    "embedding.weight",
    "patch_embedding.weight",
    "answers.weight",
)


class Optimizer:
    """Steps a model's parameters in place.

    Hidden weights of linear and convolution layers, seen as matrices (out, in * kh * kw), go to Muon;
    embeddings, norms, biases and the first and last layers to AdamW.
    """

    def __init__(
        self, model: nn.Module, *, matrix_rate: float, rest_rate: float, weight_decay: float = 0.01
    ) -> None:
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        matrices = [p for name, p in self.parameters.items() if is_matrix(name, p)]
        rest = [p for name, p in self.parameters.items() if not is_matrix(name, p)]
        self.muon = Muon(matrices, lr=matrix_rate, weight_decay=weight_decay)
        self.adam = torch.optim.AdamW(rest, lr=rest_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
        self._rates = (matrix_rate, rest_rate)

    def step(self, scale: float, *, clip: float | None = None) -> None:
        """One step at `scale` times the learning rates; takes the model's gradients and clears them."""
        if clip is not None:
            nn.utils.clip_grad_norm_(self.parameters.values(), clip)
        optimizers: tuple[torch.optim.Optimizer, ...] = (self.muon, self.adam)
        for optimizer, rate in zip(optimizers, self._rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * scale
            optimizer.step()
        for parameter in self.parameters.values():
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The states of both optimisers; the weights are the model's."""
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether Muon steps this parameter."""
    return parameter.ndim >= 2 and not name.endswith(_FIRST_AND_LAST)
