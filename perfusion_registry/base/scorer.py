"""How alike pictures and texts are, by a CLIP model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor


class Scorer:
    """A frozen CLIP model; its features are unit vectors, so that dot products are cosine similarities."""

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> Scorer:
        """Load the CLIP model in `folder`. Raises PerfError when it is missing or broken."""
        raise NotImplementedError

    def image_features(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) in 0..1, any size. Returns (B, f) unit vectors, fp32."""
        raise NotImplementedError

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Returns (len(texts), f) unit vectors, fp32."""
        raise NotImplementedError
