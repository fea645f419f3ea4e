"""Residuals and their masks, against the formulas of the paper written out place by place."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from perfusion_registry.edit import at_median, localised, residual

shapes = st.tuples(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 12))


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(shapes)
def test_inside_a_binary_mask_the_weights_are_changed_and_outside_they_are_not(
    case: tuple[int, int, int],
) -> None:
    """Eq. 3 of Personalized Residuals: f_hat = (1 - M) f + M f', with W' = W + Delta W."""
    seed, rank, places = case
    W, x, down, up = (random(seed + k, *s) for k, s in enumerate([(5, 6), (places, 6), (rank, 6), (5, rank)]))
    mask = (random(seed + 9, places, 1) > 0).double()
    plain, changed = x @ W.T, x @ (W + up @ down).T
    expected = (1 - mask) * plain + mask * changed
    assert torch.allclose(plain + residual(x, [(down, up)], mask), expected)
    assert torch.allclose(plain + residual(x, [(down, up)]), changed)


@given(shapes)
def test_several_residuals_add_each_in_its_own_place(case: tuple[int, int, int]) -> None:
    seed, J, places = case
    x = random(seed, 2, places, 6)
    factors = [(random(seed + j, j + 1, 6), random(seed - j, 5, j + 1)) for j in range(J)]
    mask = random(seed + 7, 2, places, J).abs()
    expected = torch.zeros(2, places, 5, dtype=torch.float64)
    for b in range(2):
        for p in range(places):
            for j, (down, up) in enumerate(factors):
                expected[b, p] += mask[b, p, j] * (up @ (down @ x[b, p]))
    assert torch.allclose(residual(x, factors, mask), expected)


def test_no_residual_at_all_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no residual"):
        residual(torch.zeros(1, 2), [])


@given(shapes)
def test_masks_are_ramps_of_relative_attention_and_never_overlap(case: tuple[int, int, int]) -> None:
    seed, J, places = case
    share = random(seed, 3, places, J).abs() + 1e-3
    mask, parts = localised(share), share / share.amax(-2, keepdim=True)
    wider = localised(share, least=0.1, most=0.2)
    assert torch.equal(wider > 0, (parts > 0.1) & (parts == parts.amax(-1, keepdim=True)))
    assert mask.shape == share.shape
    assert float(mask.min()) >= 0
    assert float(mask.max()) <= 1
    assert float(mask.sum(-1).max()) <= 1 + 1e-12
    for b in range(3):
        for p in range(places):
            relative = [share[b, p, j] / share[b, :, j].max() for j in range(J)]
            for j in range(J):
                wins = [r == max(relative) for r in relative]
                expected = (
                    (4 * relative[j] - 1).clamp(0, 1) / sum(wins) if wins[j] else torch.zeros(()).double()
                )
                assert torch.isclose(mask[b, p, j], expected)


@given(shapes)
def test_neither_the_order_of_concepts_nor_the_scale_of_one_matters(case: tuple[int, int, int]) -> None:
    seed, J, places = case
    share = random(seed, places, J).abs()
    order = torch.randperm(J, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(localised(share[:, order]), localised(share)[:, order])
    scale = random(seed + 1, J).abs() + 0.1
    assert torch.allclose(localised(share * scale), localised(share))


def test_no_attention_is_no_mask() -> None:
    mask = localised(torch.zeros(2, 5, 2))
    assert torch.equal(mask, torch.zeros(2, 5, 2))
    one = localised(torch.tensor([[[0.1], [0.8], [0.3], [0.2], [0.4]]]))
    assert torch.allclose(one, torch.tensor([[[0.0], [1.0], [0.5], [0.0], [1.0]]]))


@given(shapes)
def test_at_its_median_a_map_is_binarised_as_by_sorting(shape: tuple[int, int, int]) -> None:
    seed, J, p = shape
    share = random(seed, 2, p, J).abs()
    mask = at_median(share)
    for b in range(2):
        for j in range(J):
            greatest = sorted(range(p), key=lambda place: -float(share[b, place, j]))[: (p + 1) // 2]
            assert {place for place in range(p) if mask[b, place, j] == 1} == set(greatest)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
