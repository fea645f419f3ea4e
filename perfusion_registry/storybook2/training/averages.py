"""Averages of weights by power functions, whose length is chosen after training (Karras et al. 2024,
2312.02696).

An average of exponent g weighs the weights at time tau by tau^g. Two of them are kept while a network trains,
and snapshots of both; any other length is then a combination of the snapshots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

EXPONENTS = (6.94, 16.97)
"""Of averages whose deviation is 0.10 and 0.05 of the training so far."""


class PowerAverage:
    """The running average of tensors by tau^exponent, over steps 1, 2, ... or every few of them."""

    def __init__(self, tensors: Mapping[str, Tensor], exponent: float) -> None:
        self.exponent = exponent
        self.values = {name: tensor.detach().clone().float() for name, tensor in tensors.items()}
        self.steps = 0

    @torch.no_grad()
    def update(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Count in the tensors as they are after `steps` steps in all."""
        keep = (self.steps / steps) ** (self.exponent + 1)
        names = list(self.values)
        torch._foreach_lerp_([self.values[n] for n in names], [tensors[n].detach() for n in names], 1 - keep)
        self.steps = steps

    def state_dict(self) -> dict[str, object]:
        """The average and its time."""
        return {"values": self.values, "steps": self.steps, "exponent": self.exponent}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continue from `state_dict`."""
        values, steps, exponent = state["values"], state["steps"], state["exponent"]
        assert isinstance(values, dict)
        assert isinstance(steps, int)
        assert isinstance(exponent, float)
        for name, value in self.values.items():
            value.copy_(values[name])
        self.steps, self.exponent = steps, exponent


def exponent_of(deviation: float) -> float:
    """The exponent of the average whose profile has this standard deviation, as a share of the training."""
    roots = np.roots([1, 7, 16 - deviation**-2, 12 - deviation**-2])
    return float(roots.real.max())


def combination(
    times: Sequence[float], exponents: Sequence[float], time: float, exponent: float
) -> NDArray[np.float64]:
    """The weights of snapshots whose sum comes closest to the average by `exponent` at `time`.

    times, exponents: of each snapshot. Least squares between the profiles; the paper's algorithm 3.
    """
    t, g = np.asarray(times, np.float64), np.asarray(exponents, np.float64)
    among = _product(t[:, None], g[:, None], t[None], g[None])
    wanted = _product(t, g, np.full_like(t, time), np.full_like(g, exponent))
    return np.asarray(np.linalg.lstsq(among, wanted, rcond=None)[0], np.float64)


def _product(
    t: NDArray[np.float64], g: NDArray[np.float64], u: NDArray[np.float64], h: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The inner products of profiles (g + 1) tau^g / t^(g + 1) on [0, t], and with h and u."""
    longer = np.maximum(t, u)
    ratio = np.where(t < u, (t / longer) ** h, (u / longer) ** g)
    return np.asarray((g + 1) * (h + 1) * ratio / ((g + h + 1) * longer), np.float64)
