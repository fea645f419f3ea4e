"""Textual inversions of a tiny base with random numbers, as other programs write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

SIZE = 1.0
"""Of the numbers, beside which those of a tiny base's own tokens are small."""


def vectors(widths: Sequence[int], count: int, seed: int = 0) -> list[Tensor]:
    """(count, width) for each text encoder."""
    dice = torch.Generator().manual_seed(seed)
    return [SIZE * torch.randn(count, width, generator=dice) for width in widths]


def save_embedding(
    file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write them by these names."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), file, dict(metadata or {}))
    return file
