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

    W: (D, d) bank matrix. O: (..., J, D) target outputs. The others are as in `parted`. Returns (..., n, D).

    Gradients flow to E and O (and W, if it asks for them), never to I or V. With J = 0 it is `E W^T`.
    """
    rest, gates = parted(E, I, V, bias, temperature, weights, mask)
    h = rest @ W.T
    return h if I.shape[-2] == 0 else h + gates @ O


def parted(
    E: Tensor,
    I: Tensor,
    V: Tensor,
    bias: Tensor,
    temperature: Tensor,
    weights: Tensor | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """E_perp (..., n, d) and G (..., n, J): encodings without what concepts claim, and how far each gate is
    open. With a projection's own W and O they give its columns of `packed`.

    E: (..., n, d) encodings. I, V: (..., J, d) target inputs and their duals. bias, temperature: (..., J).
    weights: (..., n), what each encoding is multiplied by; gates are of the encodings without them, so a
    weight never opens or closes one. mask: (..., n) bool, false where E stays as it is and every gate is 0;
    None: nowhere. Gradients flow to E alone.
    """
    rest = perpendicular(E, I, V)
    gates = gate(similarity(E, I, V), bias, temperature)
    if mask is not None:
        rest, gates = torch.where(mask[..., None], rest, E), gates * mask[..., None]
    if weights is not None:
        rest = rest * weights.unsqueeze(-1)
    return rest, gates
