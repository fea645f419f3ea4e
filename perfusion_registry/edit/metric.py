"""The metric space of C^-1, in which similarity to a target input is measured (Section 3.2, Appendix B)."""

from __future__ import annotations

import torch
from torch import Tensor


class CovarianceMetric:
    """The inner product `<a, b> = a^T C^-1 b` of a covariance C (d, d), kept in float64 on the CPU.

    C is symmetrised, and `ridge` times the mean of its diagonal is added to the diagonal, which keeps C^-1
    bounded in directions that the captions hardly visit. Being relative to C, the ridge leaves the method
    invariant to C's scale.

    Raises ValueError when C is not square, not finite, or not positive definite after the ridge.
    """

    def __init__(self, C: Tensor, ridge: float = 0.01) -> None:
        if C.ndim != 2 or C.shape[0] != C.shape[1] or C.shape[0] == 0:
            raise ValueError(f"a covariance is a square matrix, not one of shape {tuple(C.shape)}")
        if ridge < 0:
            raise ValueError(f"a ridge is zero or more, not {ridge}")
        C = C.detach().to("cpu", torch.float64)
        if not bool(torch.isfinite(C).all()):
            raise ValueError("the covariance holds values that are not finite")
        C = (C + C.T) / 2
        C = C + ridge * C.diagonal().mean() * torch.eye(C.shape[0], dtype=C.dtype)
        # C = R R^T with R lower triangular, so C^-1 = L L^T with L = R^-T.
        R, failed = torch.linalg.cholesky_ex(C)
        if bool(failed):
            raise ValueError("the covariance is not positive definite: it needs more captions or a ridge")
        self.C = C  # (d, d), ridge included
        self._root = R  # (d, d)

    @property
    def width(self) -> int:
        """d, the width of the encodings that this metric compares."""
        return int(self.C.shape[0])

    def dual(self, i: Tensor) -> Tensor:
        """`v = C^-1 i`, with which every similarity to i is a plain dot product.

        i: (..., d) target inputs. Returns (..., d), detached, in i's dtype and on its device.
        """
        flat = i.detach().reshape(-1, self.width).to("cpu", torch.float64)  # (k, d)
        v: Tensor = torch.cholesky_solve(flat.T, self._root).T
        return v.reshape(i.shape).to(i.device, i.dtype)

    def whiten(self, E: Tensor) -> Tensor:
        """`E L` with `L L^T = C^-1` (Eq. 6): plain dot products of the results are similarities.

        E: (..., d). Returns (..., d) in E's dtype and on its device; gradients flow through.
        """
        flat = E.reshape(-1, self.width).to("cpu", torch.float64)  # (k, d)
        # e L = e R^-T, so (e L)^T = R^-1 e^T.
        whitened: Tensor = torch.linalg.solve_triangular(self._root, flat.T, upper=False).T
        return whitened.reshape(E.shape).to(E.device, E.dtype)
