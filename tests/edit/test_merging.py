"""The merge of Custom Diffusion, against the constrained problem solved in other coordinates."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from perfusion_registry.edit import merged


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(5, 9), st.integers(1, 6))
def test_it_is_the_least_change_that_meets_what_is_asked_for(seed: int, N: int, d: int, D: int) -> None:
    """In coordinates in which captions are white, the least change has the least norm, and that of all
    solutions of a linear system is the pseudoinverse's."""
    dice = torch.Generator().manual_seed(seed)
    captions = torch.randn(40, d, generator=dice, dtype=torch.float64)
    C = captions.T @ captions / 40
    I = torch.randn(N, d, generator=dice, dtype=torch.float64)  # noqa: E741
    gain = torch.randn(N, D, generator=dice, dtype=torch.float64)
    down, up = merged(I, torch.linalg.solve(C, I.T).T, gain)
    change = up @ down
    L = torch.linalg.cholesky(C)
    white = gain.T @ torch.linalg.pinv(torch.linalg.solve_triangular(L, I.T, upper=False))
    assert torch.allclose(change @ L, white, atol=1e-6)
    assert torch.allclose(change @ I.T, gain.T, atol=1e-6)
