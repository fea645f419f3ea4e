"""Styles: the drawn world seen by another hand, to fine-tune the embedded base on.

A fine-tuned base has the text encoder, the autoencoder and the shapes of the one it began with, so it is of
the same family, and concepts that were built on the one render on the other (the transfer of Perfusion's
Figure 12). A style is of washes rather than of lines: finer things than two pixels are lost in the
autoencoder.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PAPER = (1.0, 0.92, 0.74)
INK = (0.11, 0.07, 0.06)


def sepia(images: Tensor) -> Tensor:
    """An old print: brown ink on yellowed paper, colours half faded, dark towards the edges.

    images: (B, 3, h, w) in 0..1. Returns the same.
    """
    grey = images.mean(1, keepdim=True)
    faded = (grey + 0.5 * (images - grey)).clamp(0, 1) ** 1.3
    across, down = (torch.linspace(-1, 1, size, device=images.device) for size in images.shape[:-3:-1])
    edge = (down[:, None] ** 2 + across**2 - 0.5).clamp(min=0) / 1.5  # 0 within half the way to the corners
    paper, ink = (images.new_tensor(colour)[:, None, None] for colour in (PAPER, INK))
    return ink + (paper - ink) * faded * (1 - 0.85 * edge)


STYLES: dict[str, Callable[[Tensor], Tensor]] = {"sepia": sepia}
