"""Framing: a concept's images at several sizes, so that it is known when it is drawn small in a scene."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def framed(images: Tensor, masks: Tensor, sizes: Sequence[float], seed: int) -> tuple[Tensor, Tensor]:
    """Every image at every size; one that leaves room lies at a drawn place, its edges stretched outwards.

    images: (N, 3, H, W) in 0..1. masks: (N, 1, H, W). sizes: S shares of the frame, over 0 and at most 1.
    Returns (S N, 3, H, W) and (S N, 1, H, W), size by size. The stretched edges are masked, so nothing is
    learned from them.
    """
    dice = torch.Generator().manual_seed(seed)
    H, W = images.shape[-2:]
    shown, weights = [], []
    for size in sizes:
        h, w = max(1, round(H * size)), max(1, round(W * size))
        for image, mask in zip(images[:, None], masks[:, None], strict=True):
            top, left = (int(torch.randint(room + 1, (), generator=dice)) for room in (H - h, W - w))
            margins = (left, W - w - left, top, H - h - top)
            small, weight = (functional.interpolate(x, (h, w), mode="area") for x in (image, mask))
            shown.append(functional.pad(small, margins, mode="replicate"))
            weights.append(functional.pad(weight, margins))
    return torch.cat(shown), torch.cat(weights)
