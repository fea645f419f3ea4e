"""How far each token is each concept: similarity in units of energy, and the sigmoid gate (Section 4.2)."""

# ruff: noqa: E741 (I and O are the paper's symbols)

from __future__ import annotations

import torch
from torch import Tensor


def similarity(E: Tensor, I: Tensor, V: Tensor) -> Tensor:
    """`sim(i_j, e) / energy_j` of every token with every concept; exactly 1 where `e = i_j`.

    E: (..., n, d) encodings. I: (..., J, d) target inputs. V: (..., J, d) their duals `C^-1 i_j`.
    Returns (..., n, J). Gradients flow to E only. Every energy `i_j . v_j` must be positive.
    """
    I, V = I.detach().to(E.dtype), V.detach().to(E.dtype)
    energy = (I * V).sum(-1)  # (..., J)
    return E @ V.transpose(-1, -2) / energy.unsqueeze(-2)


def gate(similarity: Tensor, bias: Tensor, temperature: Tensor) -> Tensor:
    """`sigmoid((similarity - beta) / tau)`, the gate of Eq. 3 and Eq. 4.

    similarity: (..., n, J) in units of energy. bias, temperature: (..., J), one per concept; tau is positive.
    Returns (..., n, J) in (0, 1).
    """
    return torch.sigmoid((similarity - bias.unsqueeze(-2)) / temperature.unsqueeze(-2))
