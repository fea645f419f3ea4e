"""The metric refuses what is no covariance, and its ridge is relative."""

from __future__ import annotations

import pytest
import torch

from perfusion_registry.edit import CovarianceMetric
from tests.edit.problem import make


def test_the_dual_solves_against_the_covariance_with_its_ridge() -> None:
    p = make(3, 2)
    ridged = p.C + 0.05 * p.C.diagonal().mean() * torch.eye(len(p.C))
    assert torch.allclose(ridged @ CovarianceMetric(p.C, 0.05).dual(p.I).T, p.I.T, atol=1e-9)


def test_the_dual_keeps_dtype_and_shape_and_carries_no_gradient() -> None:
    p = make(3, 2)
    i = p.I[0].float().requires_grad_()
    v = CovarianceMetric(p.C).dual(i)
    assert (v.dtype, v.shape, v.requires_grad) == (torch.float32, i.shape, False)


def test_a_rank_deficient_covariance_needs_the_ridge() -> None:
    few = torch.randn(4, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    C = few.T @ few
    assert bool(torch.isfinite(CovarianceMetric(C, ridge=0.01).dual(few)).all())
    with pytest.raises(ValueError, match="positive definite"):
        CovarianceMetric(C - 1e-6 * torch.eye(12), ridge=0.0)


@pytest.mark.parametrize(
    ("C", "message"),
    [
        (torch.ones(3, 4), "square"),
        (torch.ones(0, 0), "square"),
        (torch.full((3, 3), float("nan")), "finite"),
        (-torch.eye(3), "positive definite"),
    ],
)
def test_what_is_no_covariance_is_refused(C: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CovarianceMetric(C)


def test_a_negative_ridge_is_refused() -> None:
    with pytest.raises(ValueError, match="ridge"):
        CovarianceMetric(torch.eye(3), ridge=-0.1)
