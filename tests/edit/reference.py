"""Algorithm 1, Eq. 1 and Appendix B in float64 numpy, as the paper has them, token by token.

Nothing here is shared with the package: the inverse of C is formed, bases come from Cholesky and QR.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def sigmoid(x: float) -> float:
    return float(1.0 / (1.0 + np.exp(-x)))


def algorithm_1(input: Array, W: Array, C: Array, i: Array, o: Array, beta: float, tau: float) -> Array:
    """The forward pass of Algorithm 1 without the online estimation. input: (n, d). Returns (n, D)."""
    C_inv = np.linalg.inv(C)
    i_energy = (C_inv @ i).T @ i
    h = []
    for e in input:
        sim = e @ (C_inv @ i)
        sigmoid_term = sigmoid((sim / i_energy - beta) / tau)
        W_em_orthogonal_term = W @ e - sim * (W @ i) / i_energy
        h.append(W_em_orthogonal_term + sigmoid_term * o)
    return np.array(h)


def equation_1(W: Array, C: Array, i: Array, o: Array) -> Array:
    C_inv = np.linalg.inv(C)
    Lambda = (o - W @ i) / (i.T @ C_inv.T @ i)
    return W + np.outer(Lambda, C_inv @ i)


def orthogonal_component(e: Array, C: Array, targets: Array) -> Array:
    """Eq. 6 to 10 for one encoding. e: (d,). targets: (J, d). Returns (d,)."""
    C_inv = np.linalg.inv(C)
    L = np.linalg.cholesky((C_inv + C_inv.T) / 2)  # C^-1 = L L^T
    whitened = np.stack([L.T @ i for i in targets], axis=1)  # (d, J)
    U_tilde, _ = np.linalg.qr(whitened)  # (d, J)
    e_tilde = L.T @ e
    e_perp = e.copy()
    for u_tilde in U_tilde.T:
        u = np.linalg.inv(L.T) @ u_tilde
        e_perp = e_perp - u * (u_tilde @ e_tilde)
    return e_perp


def equation_4(
    E: Array, W: Array, C: Array, targets: Array, outputs: Array, beta: Array, tau: Array
) -> Array:
    """E: (n, d). targets: (J, d). outputs: (J, D). Returns (n, D)."""
    C_inv = np.linalg.inv(C)
    h = []
    for e in E:
        out = W @ orthogonal_component(e, C, targets)
        for i, o, b, t in zip(targets, outputs, beta, tau, strict=True):
            sim, energy = i @ C_inv.T @ e, i @ C_inv.T @ i
            out = out + o * sigmoid((sim / energy - b) / t)
        h.append(out)
    return np.array(h)
