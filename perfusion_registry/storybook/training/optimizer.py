"""One optimiser for all networks of the embedded base: Muon for matrices, AdamW for the rest, with fp32
masters.

Side by side on the autoencoder for 75 s on two cores, Muon reached 18.7 dB where AdamW reached 16.3.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class MasterOptimizer:
    """Steps fp32 masters of a model's parameters, and writes them back to the model in its own dtype.

    Hidden weights of linear and convolution layers, seen as matrices (out, in * kh * kw), go to Muon
    (Jordan et al. 2024, with updates scaled to AdamW's size); embeddings, norms, biases and the first and
    last layers to AdamW.
    """

    def __init__(
        self, model: nn.Module, *, matrix_rate: float, rest_rate: float, weight_decay: float = 0.01
    ) -> None:
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.masters = {
            name: nn.Parameter((p.flatten(1) if _is_matrix(name, p) else p).detach().float().clone())
            for name, p in self.parameters.items()
        }
        matrices = [m for name, m in self.masters.items() if _is_matrix(name, self.parameters[name])]
        rest = [m for name, m in self.masters.items() if not _is_matrix(name, self.parameters[name])]
        self.muon: torch.optim.Optimizer = torch.optim.Muon(
            matrices, lr=matrix_rate, weight_decay=weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        )
        self.adam: torch.optim.Optimizer = torch.optim.AdamW(
            rest, lr=rest_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True
        )
        self._rates = (matrix_rate, rest_rate)

    @torch.no_grad()
    def step(self, scale: float, *, clip: float | None = None) -> None:
        """One step at `scale` times the learning rates; takes the model's gradients and clears them."""
        for name, p in self.parameters.items():
            self.masters[name].grad = (
                None if p.grad is None else p.grad.float().reshape(self.masters[name].shape)
            )
            p.grad = None
        if clip is not None:
            nn.utils.clip_grad_norm_(self.masters.values(), clip)
        for optimizer, rate in ((self.muon, self._rates[0]), (self.adam, self._rates[1])):
            for group in optimizer.param_groups:
                group["lr"] = rate * scale
            optimizer.step()
        torch._foreach_copy_(list(self.parameters.values()), self.values())

    def values(self) -> list[Tensor]:
        """The masters in the shapes of the model's parameters, in its order."""
        return [m.detach().view(self.parameters[name].shape) for name, m in self.masters.items()]

    def state_dict(self) -> dict[str, Any]:
        """Masters and the states of both optimisers."""
        masters = {name: m.detach() for name, m in self.masters.items()}
        return {"masters": masters, "muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`; the model's parameters follow the masters."""
        for name, saved in state["masters"].items():
            self.masters[name].copy_(saved)
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        torch._foreach_copy_(list(self.parameters.values()), self.values())


def _is_matrix(name: str, p: Tensor) -> bool:
    ends = ("conv_in.weight", "conv_out.weight", "quant_conv.weight", "embedding.weight", "map_head.weight")
    return p.ndim >= 2 and not name.endswith(ends)
