"""Concepts whose target inputs are almost, or exactly, the same: two teddies in one prompt."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from perfusion_registry.edit import CovarianceMetric, packed, perpendicular
from perfusion_registry.edit.projection import basis
from tests.edit import reference
from tests.edit.problem import Problem, make


def twins(apart: float, dtype: torch.dtype = torch.float64, d: int = 64) -> tuple[Problem, Tensor, Tensor]:
    """A problem and two targets that differ by about the share `apart`, with their duals, in `dtype`."""
    p = make(5, 2, d=d, condition=4e3)
    nearly = torch.stack([p.I[0], p.I[0] + apart * p.I[1]]).to(dtype)
    return p, nearly, CovarianceMetric(p.C, 0.0).dual(nearly)


@pytest.mark.parametrize("apart", [0.0, 1e-12, 1e-9, 1e-7, 1e-5, 1e-3, 0.1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_no_distance_between_targets_makes_the_edit_large(apart: float, dtype: torch.dtype) -> None:
    """A projection never adds: in the metric, no encoding may come out longer than it went in."""
    p, I, V = twins(apart, dtype)  # noqa: E741
    metric = CovarianceMetric(p.C, 0.0)
    before = metric.whiten(p.E).norm(dim=-1)
    after = metric.whiten(perpendicular(p.E.to(dtype), I, V).double()).norm(dim=-1)
    assert bool((after <= before * 1.01).all())


@pytest.mark.parametrize("apart", [0.0, 1e-12, 1e-9, 1e-7, 1e-5, 1e-3, 0.1])
def test_every_target_is_still_taken_out(apart: float) -> None:
    """What an artifact's fp32 leaves of the targets is below one part in a hundred of their energy."""
    p, I, V = twins(apart, torch.float32)  # noqa: E741
    left = perpendicular(I, I, V).double() @ torch.linalg.inv(p.C) @ I.double().T
    energy = (I.double() * V.double()).sum(-1)
    assert float((left / energy).abs().max()) < 1e-2


def test_the_same_target_twice_projects_as_once() -> None:
    p, I, V = twins(0.0)  # noqa: E741
    assert torch.allclose(perpendicular(p.E, I, V), perpendicular(p.E, I[:1], V[:1]), atol=1e-10)


def test_targets_that_differ_clearly_keep_their_own_directions() -> None:
    p, I, V = twins(1e-3)  # noqa: E741
    expected = torch.stack(
        [torch.as_tensor(reference.orthogonal_component(e.numpy(), p.C.numpy(), I.numpy())) for e in p.E]
    )
    assert torch.allclose(perpendicular(p.E, I, V), expected, atol=1e-7)


def test_the_basis_is_orthonormal_in_the_metric_and_drops_what_is_double() -> None:
    p = make(9, 3)
    I = torch.cat([p.I, p.I[:1]])  # noqa: E741
    U, U_dual = basis(I, CovarianceMetric(p.C, 0.0).dual(I))
    gram = U @ U_dual.T
    assert torch.allclose(gram, torch.diag(gram.diagonal().round()), atol=1e-9)
    assert float(gram.diagonal().round().sum()) == 3
    assert torch.allclose(U @ torch.linalg.inv(p.C), U_dual, atol=1e-9)


def test_two_equal_concepts_add_their_gated_outputs() -> None:
    p, I, V = twins(0.0)  # noqa: E741
    once = packed(p.E, p.W, I[:1], V[:1], p.O[:1], p.bias[:1], p.temperature[:1])
    bias, temperature = p.bias[:1].expand(2), p.temperature[:1].expand(2)
    halves = packed(p.E, p.W, I, V, p.O[:1].expand(2, -1) / 2, bias, temperature)
    assert torch.allclose(halves, once, atol=1e-10)
