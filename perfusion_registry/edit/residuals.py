"""Personalised residuals and where they apply: the second paper's Sections 3.2 and 3.3.

"Personalized Residuals for Concept-Driven Text-to-Image Generation" (Ham et al., CVPR 2024). A concept adds a
low-rank residual to the output projection of each transformer block; localized attention-guided (LAG)
sampling adds it only where the concept's own token is attended to.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def localised(share: Tensor, *, least: float = 0.25, most: float = 0.5) -> Tensor:
    """Where each concept is, from the attention that its token gets: LAG's mask M of Eq. 3, made for several.

    share: (..., p, J), the attention of p places to the tokens of J concepts, zero or more. least, most:
    parts of a concept's greatest attention. Returns (..., p, J) in 0..1: 1 where a concept's attention is at
    least `most` of its greatest, 0 up to `least` of it, a ramp between, and kept only at places where no
    other concept's is greater, so that masks do not overlap; a tie is shared. Without attention it is 0.

    The paper binarises one concept's map at its median, which gives half of every picture to a concept
    however small it is drawn, and leaves several concepts to future work. Attention itself as a mask leaves
    out the edges of a concept (a teddy's ears), its root takes the surroundings in.
    """
    peak = share.amax(-2, keepdim=True)
    relative = share / peak.clamp_min(torch.finfo(share.dtype).tiny)
    wins = (relative >= relative.amax(-1, keepdim=True)).to(share.dtype)
    return ((relative - least) / (most - least)).clamp(0, 1) * wins / wins.sum(-1, keepdim=True).clamp_min(1)


def at_median(share: Tensor) -> Tensor:
    """Where each concept is, as the paper has it: LAG's mask M of Eq. 3, each map binarised at its median.

    share: (..., p, J), as in `localised`. Returns (..., p, J), 1 at the half of the places (of an odd number
    one more) where a concept's attention is greatest and at places that are equal to these, 0 elsewhere.
    Masks of several concepts may overlap: the paper leaves these to future work.
    """
    ordered = share.sort(-2).values
    middle = share.shape[-2] // 2
    return (share >= ordered[..., middle : middle + 1, :]).to(share.dtype)


def residual(x: Tensor, factors: Sequence[tuple[Tensor, Tensor]], mask: Tensor | None = None) -> Tensor:
    """`sum_j M_j * (B_j A_j x)`: what the concepts' residuals add to the output of one projection (Eq. 3).

    x: (..., p, m), what the projection reads at p places. factors: of each concept, A_j (r_j, m) and
    B_j (m', r_j). mask: (..., p, J), or None where every residual applies everywhere, as in training.
    Returns (..., p, m').
    """
    total: Tensor | None = None
    for j, (down, up) in enumerate(factors):
        part = x @ down.T @ up.T
        if mask is not None:
            part = part * mask[..., j : j + 1]
        total = part if total is None else total + part
    if total is None:
        raise ValueError("there is no residual")
    return total
