"""Eq. 3 and Eq. 4 of the paper once more, in fp64: beside what `edit` makes, of which nothing is called."""

from __future__ import annotations

import torch
from torch import Tensor

RIDGE = 0.01
"""Of C's mean diagonal, which is added to C's diagonal before it is inverted."""


def ridged(C: Tensor) -> Tensor:
    """C (d, d) as it is inverted."""
    return C + RIDGE * C.diagonal().mean() * torch.eye(len(C), dtype=C.dtype)


def parted(
    E: Tensor, inputs: Tensor, C: Tensor, bias: Tensor, temperature: Tensor, there: Tensor
) -> tuple[Tensor, Tensor]:
    """What of encodings is none of the concepts' directions (n, d), and how far each concept's gate is open
    (n, J): keys and values are W of the first, and each concept's outputs times the second.

    E: (n, d). inputs: i* of the concepts, (J, d). bias, temperature: of their gates, (J,). there: (n, 1), 0
    at padding, which is left as it is.
    """
    inverse = torch.linalg.inv(ridged(C))
    products = inputs @ inverse @ inputs.T
    similarity = E @ inverse @ inputs.T / products.diagonal()
    gate = 1 / (1 + torch.exp(-(similarity - bias) / temperature)) * there
    rest = E - (E @ inverse @ inputs.T @ torch.linalg.inv(products) @ inputs) * there
    return rest, gate
