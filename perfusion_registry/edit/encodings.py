"""The whole method in one formula, for training (Eq. 3), one concept (Eq. 3) and many (Eq. 4)."""

# ruff: noqa: E741 (I and O are the paper's symbols)

from __future__ import annotations

import torch
from torch import Tensor

from perfusion_registry.edit.gates import gate, similarity
from perfusion_registry.edit.projection import perpendicular


def packed(
    E: Tensor,
    W: Tensor,
    I: Tensor,
    V: Tensor,
    O: Tensor,
    bias: Tensor,
    temperature: Tensor,
    weights: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """`E_perp W^T + G O`: what every K and V projection of every layer emits, concatenated.

    E: (..., n, d) encodings. W: (D, d) bank matrix. I, V: (..., J, d) target inputs and their duals.
    O: (..., J, D) target outputs. bias, temperature: (..., J). weights: (..., n), what each encoding is
    multiplied by; gates are of the encodings without them, so a weight never opens or closes one. mask:
    (..., n) bool, false where E stays as it is and every gate is 0; None: nowhere. Returns (..., n, D).

    Gradients flow to E and O (and W, if it asks for them), never to I or V. With J = 0 it is `E W^T`.
    """
    rest = perpendicular(E, I, V)
    if mask is not None:
        rest = torch.where(mask[..., None], rest, E)
    if weights is not None:
        rest = rest * weights.unsqueeze(-1)
    h = rest @ W.T
    if I.shape[-2] == 0:
        return h
    gates = gate(similarity(E, I, V), bias, temperature)
    return h + (gates if mask is None else gates * mask[..., None]) @ O
