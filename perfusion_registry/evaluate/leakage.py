"""Leakage: how much attention a concept's word draws outside the concept itself (Figures 2 and A.3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from perfusion_registry.build.masks import attention_masks

if TYPE_CHECKING:
    from perfusion_registry.base import Base

INSIDE = 0.5
"""Of the mask, above which a place counts as the concept's."""


def outside(attention: Tensor, mask: Tensor) -> float:
    """The share of attention (h, w), zero or more, that falls where the mask (h', w') is below `INSIDE`.

    0 means none; attention spread evenly gives the share of the picture that is not the concept's.
    """
    inside = functional.interpolate(mask[None, None], attention.shape, mode="area")[0, 0] >= INSIDE
    total = float(attention.sum())
    return 1 - float(attention[inside].sum()) / total if total > 0 else float("nan")


def leakage(base: Base, pictures: Tensor, maps: Sequence[Tensor], supercategory: str) -> Tensor:
    """Leakage (B,) of drawn pictures (B, 3, H, W), with the maps (h, w) recorded while they were drawn.

    The concept's mask is found in the finished picture as training finds masks: by the untouched base's
    attention to the supercategory's word.
    """
    masks = attention_masks(base, pictures, supercategory)[:, 0]  # (B, h', w')
    return torch.tensor([outside(attention, mask) for attention, mask in zip(maps, masks, strict=True)])


def read_map(path: Path) -> Tensor | None:
    """A recorded map (h, w) in 0..1; None where none was recorded."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as image:
            return torch.from_numpy(np.array(image).astype(np.float32) / 65535)
    except FileNotFoundError:
        return None
