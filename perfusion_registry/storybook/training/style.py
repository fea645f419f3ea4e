"""Styles: the drawn world seen by another hand, to fine-tune the embedded base on.

A fine-tuned base has the text encoder and the shapes of the one it began with, so it is of the same family,
and concepts that were built on the one render on the other (the transfer of Perfusion's Figure 12).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

PAPER = (0.07, 0.08, 0.13)
LINE = (1.0, 0.93, 0.76)


def ink(images: Tensor) -> Tensor:
    """Pale lines on dark paper, with dim washes of the old colours.

    images: (B, 3, h, w) in 0..1. Returns the same.
    """
    grey = functional.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across, down = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2], grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
    line = (3 * torch.hypot(across, down) - 0.15).clamp(0, 1)
    paper, pale = (images.new_tensor(colour)[:, None, None] for colour in (PAPER, LINE))
    wash = paper + 0.65 * images**1.5
    return (wash + line * (pale - wash)).clamp(0, 1)


STYLES: dict[str, Callable[[Tensor], Tensor]] = {"ink": ink}
