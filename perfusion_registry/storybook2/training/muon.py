"""Muon in the number format of the weights: orthogonalised momentum for matrices (Jordan et al. 2024).

`torch.optim.Muon` iterates in bf16, which processors without bf16 units emulate: a step of seconds takes
minutes. Here the iteration runs in fp32 and on the small Gram matrix, so that a wide matrix is multiplied
twice only.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic a x + b x^3 + c x^5 that drives singular values towards one."""
STEPS = 5


def orthogonalised(matrix: Tensor, *, steps: int = STEPS) -> Tensor:
    """The matrix (m, n) with its singular values driven to about one (0.7 to 1.2), its singular vectors kept.

    Newton-Schulz: X <- a X + b (X X') X + c (X X')^2 X. All iterates are polynomials of the first Gram matrix
    G = X X' times X, so the iteration is done on matrices of the shorter side.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / wide.norm().clamp_min(1e-7)
    gram = x @ x.T
    a, b, c = COEFFICIENTS
    whole: Tensor | None = None
    for step in range(steps):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        whole = factor if whole is None else factor @ whole
        if step < steps - 1:
            gram = factor @ gram @ factor
    assert whole is not None
    result: Tensor = whole @ x
    return result if matrix.shape[0] <= matrix.shape[1] else result.T


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay, its updates scaled to AdamW's size.

    Every parameter is seen as the matrix (out, everything else), convolutions too. `lr` is that of an AdamW
    which the update resembles in size: it is multiplied by 0.2 sqrt(max(m, n)) (Liu et al. 2025).
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step with the gradients that the parameters hold."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                grad, momentum = parameter.grad, state["momentum"]
                momentum.lerp_(grad, 1 - group["momentum"])
                direction = grad.lerp(momentum, group["momentum"])
                update = orthogonalised(direction.flatten(1)).view_as(direction)
                rows, columns = parameter.shape[0], parameter[0].numel()
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * 0.2 * max(rows, columns) ** 0.5)
