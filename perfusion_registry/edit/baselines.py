"""What gated key locking is compared with: ROME's weight edit, its sum, and the ungated forward pass."""

# ruff: noqa: E741 (I and O are the paper's symbols)

from __future__ import annotations

from torch import Tensor

from perfusion_registry.edit.gates import similarity
from perfusion_registry.edit.metric import CovarianceMetric
from perfusion_registry.edit.projection import perpendicular


def rome_weight(W: Tensor, C: Tensor, i: Tensor, o: Tensor) -> Tensor:
    """`W + (o* - W i*) (C^-1 i*)^T / energy`: the edited weight of Eq. 1, which maps i* to o* exactly.

    W: (D, d) weight. C: (d, d) covariance, used as it is, without a ridge. i: (d,). o: (D,). Returns (D, d).
    """
    return naive_sum(W, C, i.unsqueeze(0), o.unsqueeze(0))


def naive_sum(W: Tensor, C: Tensor, I: Tensor, O: Tensor) -> Tensor:
    """`W + sum_j Lambda_j (C^-1 i_j)^T`: edits added one by one, as Section 4.2 tried first.

    It ignores that target inputs overlap, so no i_j is mapped to its o_j exactly once J > 1.
    W: (D, d). C: (d, d), used without a ridge. I: (J, d). O: (J, D). Returns (D, d).
    """
    V = CovarianceMetric(C, ridge=0.0).dual(I)  # (J, d)
    energy = (I * V).sum(-1, keepdim=True)  # (J, 1)
    Lambda = (O - I @ W.T) / energy  # (J, D)
    return W + Lambda.T @ V


def ungated(E: Tensor, W: Tensor, I: Tensor, V: Tensor, O: Tensor) -> Tensor:
    """`W e_perp + o* sim(i*, e) / energy`: Eq. 2, with the gate of Eq. 3 replaced by the similarity itself.

    Shapes as in `packed`. With J = 1 it equals `rome_weight` applied to E.
    """
    return perpendicular(E, I, V) @ W.T + similarity(E, I, V) @ O
