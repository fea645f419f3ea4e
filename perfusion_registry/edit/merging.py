"""Several edits of one weight in closed form: Custom Diffusion's constrained merge (Kumari et al., CVPR
2023)."""

# ruff: noqa: E741 (I is the paper's symbol)

from __future__ import annotations

import torch
from torch import Tensor


def merged(I: Tensor, V: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """Of all changes D of a weight W with `D i_a = gain_a`, the one that changes what captions say the least:
    `argmin_D tr(D C D^T)`, which is `D = gain^T (V I^T)^-1 V`.

    I: (N, d), encodings of the words of all concepts. V: (N, d), their duals, `C^-1 i_a`. gain: (N, D), what
    is to be added at each to `W i_a`. Returns the factors A (N, d) and B (D, N) of D. Where encodings depend
    on each other, what they ask for is met as nearly as can be.
    """
    inner = (V.double() @ I.double().T).cpu()  # (N, N)
    inverse = torch.linalg.pinv(inner).to(gain)
    return V, gain.T @ inverse
