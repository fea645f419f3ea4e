"""Sums of e e^T without rounding, so that they are the same in any order and in any parts.

Floating-point sums depend on their order, so a covariance would depend on how its captions were shared out.
Encodings are rounded once, to a grid of 2^-24, and counted as integers on it; what is added is exact. Only
`total` rounds again, when it joins the three integers of each sum in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = 2.0**15
"""What no encoding may reach; fp16 reaches no further than twice that."""
_GRID = 24
_HALF = 20  # e on the grid is high * 2^20 + low: two integers below 2^19 in size
_ROWS = 2**13
"""Rows of a product: as many products of two such integers as float64 adds without rounding."""


class ExactSum:
    """The sum of e e^T over encodings e (d,).

    limbs: (3, d, d) int64, symmetric, of high high^T, of high low^T + low high^T, and of low low^T: the sum
    is (limbs[0] 2^40 + limbs[1] 2^20 + limbs[2]) 2^-48.
    """

    def __init__(self, limbs: Tensor) -> None:
        self.limbs = limbs

    @classmethod
    def zero(cls, width: int, device: torch.device | str = "cpu") -> ExactSum:
        """Of nothing. width: d."""
        return cls(torch.zeros(3, width, width, dtype=torch.int64, device=device))

    def add(self, e: Tensor) -> None:
        """Add encodings (m, d). Raises ValueError where a number is not finite or reaches `LARGEST`."""
        for rows in e.to(self.limbs.device, torch.float64).split(_ROWS):
            if not bool((rows.abs() < LARGEST).all()):
                raise ValueError(f"encodings are to be finite and below {LARGEST:,.0f} in size")
            whole = (rows * 2.0**_GRID).round()
            high = (whole * 2.0**-_HALF).round()
            low = whole - high * 2.0**_HALF
            mixed = high.T @ low
            self.limbs += torch.stack([high.T @ high, mixed + mixed.T, low.T @ low]).to(torch.int64)
        self._carry()

    def merge(self, other: ExactSum) -> None:
        """Add what another has counted."""
        self.limbs += other.limbs.to(self.limbs.device)
        self._carry()

    def total(self) -> Tensor:
        """The sum (d, d) in float64 on the CPU: rounded at each of its three limbs, so not always to the
        nearest; equal limbs give equal bits."""
        first, second, third = self.limbs.cpu().to(torch.float64).unbind()
        whole: Tensor = (first * 2.0**_HALF + second) * 2.0**_HALF + third
        return whole * 2.0 ** (-2 * _GRID)

    def _carry(self) -> None:
        """Keep the lower limbs within 2^20, whatever was added; so equal sums have equal limbs."""
        for number in (2, 1):
            over = self.limbs[number] >> _HALF
            self.limbs[number] -= over << _HALF
            self.limbs[number - 1] += over
