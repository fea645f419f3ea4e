"""A residual at its start: A drawn and B zero, so that the first step is that of the base itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

if TYPE_CHECKING:
    from perfusion_registry.base import Factors


def new_residual(
    widths: Mapping[str, tuple[int, int]], share: float, generator: Generator, device: torch.device
) -> Factors:
    """A and B of each transformer block, to be learned.

    widths: what each block's output projection writes and reads, (m', m), by path. share: the rank as a part
    of m'. Returns A (r, m) and B (m', r) by path.
    """
    residual: dict[str, tuple[Tensor, Tensor]] = {}
    for path, (out, into) in widths.items():
        rank = max(1, round(share * out))
        down = (torch.randn(rank, into, generator=generator) / into**0.5).to(device)
        up = torch.zeros(out, rank, device=device)
        residual[path] = (down.requires_grad_(), up.requires_grad_())
    return residual
