"""Soft masks of what a word names in a picture, by CLIPSeg (Section 4.4, zero-shot weighting)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor


class Segmenter:
    """A frozen CLIPSeg model."""

    @classmethod
    def load(
        cls, source: str | Path, device: torch.device, *, allow_download: bool | None = None
    ) -> Segmenter:
        """Load a folder or a hub model. Raises PerfError when it is not here and may not be downloaded."""
        raise NotImplementedError

    def masks(self, images: Tensor, word: str) -> Tensor:
        """images: (B, 3, H, W) in 0..1. Returns (B, h, w) fp32 probabilities in 0..1 that a place shows `word`."""
        raise NotImplementedError
