"""The part of an encoding that no concept claims, C^-1-orthogonal to every target input (Appendix B)."""

# ruff: noqa: E741 (I and O are the paper's symbols)

from __future__ import annotations

import torch
from torch import Tensor


def perpendicular(E: Tensor, I: Tensor, V: Tensor) -> Tensor:
    """`E - (E V^T) (I V^T)^-1 I`, the Gram form of Eq. 7 to 10; it needs the duals, never C itself.

    E: (..., n, d) encodings. I: (..., J, d) target inputs. V: (..., J, d) their duals. Returns (..., n, d).
    Gradients flow to E only. With J = 0 it is E; with J = 1 it is Eq. 11. Target inputs that are collinear,
    or nearly so, count once (see `basis`).
    """
    if I.shape[-2] == 0:
        return E
    if I.shape[-2] == 1:  # Eq. 11, without leaving the device: this branch runs in every training step
        i, v = I.detach().to(E.dtype), V.detach().to(E.dtype)
        return E - (E @ v.transpose(-1, -2)) / (i * v).sum(-1, keepdim=True) * i
    U, U_dual = basis(I, V)
    U, U_dual = U.to(E.device, E.dtype), U_dual.to(E.device, E.dtype)
    return E - (E @ U_dual.transpose(-1, -2)) @ U  # Eq. 10


def basis(I: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
    """A C^-1-orthonormal basis `u_j` of the span of the target inputs, and its duals `C^-1 u_j` (Eq. 8).

    I, V: (..., J, d) target inputs and their duals. Returns two (..., J, d) tensors in float64 on the CPU.

    The Gram matrix of the targets, scaled to unit energies, is diagonalised. Two concepts of one category
    may have almost the same target input; the Gram matrix is then nearly singular, and inverting it would
    amplify the rounding of V. A direction whose share of energy is below 32 roundings of V's dtype carries
    little else than that rounding: its rows are zero, and the targets keep a trace of it.
    """
    tolerance = 32 * torch.finfo(V.dtype).eps
    I, V = I.detach().to("cpu", torch.float64), V.detach().to("cpu", torch.float64)
    scale = (I * V).sum(-1, keepdim=True).rsqrt()  # (..., J, 1)
    I, V = I * scale, V * scale
    gram = I @ V.transpose(-1, -2)  # (..., J, J), ones on the diagonal
    share, directions = torch.linalg.eigh((gram + gram.transpose(-1, -2)) / 2)
    root = torch.where(share > tolerance, share, torch.inf).rsqrt()  # (..., J), zero for a dropped direction
    mix = root.unsqueeze(-1) * directions.transpose(-1, -2)  # (..., J, J)
    return mix @ I, mix @ V
