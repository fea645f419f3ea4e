"""Random problems for the laws: encodings, a covariance, a bank and J concepts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from perfusion_registry.edit import CovarianceMetric


@dataclass(frozen=True)
class Problem:
    E: Tensor  # (n, d)
    W: Tensor  # (D, d)
    C: Tensor  # (d, d)
    I: Tensor  # noqa: E741  # (J, d)
    V: Tensor  # (J, d)
    O: Tensor  # noqa: E741  # (J, D)
    bias: Tensor  # (J,)
    temperature: Tensor  # (J,)

    @property
    def arguments(self) -> tuple[Tensor, ...]:
        return self.E, self.W, self.I, self.V, self.O, self.bias, self.temperature


def make(seed: int, J: int, d: int = 12, n: int = 7, D: int = 9, condition: float = 1e3) -> Problem:
    """A float64 problem whose covariance has the given condition number, in a random orientation."""
    dice = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=dice, dtype=torch.float64)

    axes, _ = torch.linalg.qr(normal(d, d))
    C = axes @ torch.diag(torch.logspace(0, float(torch.tensor(condition).log10()), d, dtype=torch.float64))
    C = C @ axes.T
    targets = normal(J, d) + 0.5 * normal(1, d)  # they overlap, as those of real concepts do
    E = torch.cat([normal(n, d), targets])
    bias = torch.rand(J, generator=dice, dtype=torch.float64) * 0.8
    temperature = 0.05 + 0.2 * torch.rand(J, generator=dice, dtype=torch.float64)
    V = CovarianceMetric(C, ridge=0.0).dual(targets)
    return Problem(E, normal(D, d), C, targets, V, normal(J, D), bias, temperature)


def problems(least: int = 1, most: int = 5) -> st.SearchStrategy[Problem]:
    seeds, counts = st.integers(0, 2**31), st.integers(least, most)
    return st.builds(make, seeds, counts, condition=st.sampled_from([1.0, 30.0, 1e3, 1e5]))
