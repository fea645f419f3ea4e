"""Pictures as vision models want them: resized, cropped and normalised as their preprocessor file says."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from perfusion_registry.errors import PerfError


@dataclass(frozen=True)
class Preprocessing:
    """How a vision model's pictures are prepared.

    size: side of the square that the model sees. crop: keep the proportions and cut the middle, instead of
    squeezing the whole picture into the square. mode: of the interpolation. mean, std: per colour channel.
    """

    size: int
    crop: bool
    mode: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def clip(cls, size: int) -> Preprocessing:
        """The preprocessing of OpenAI's CLIP models."""
        mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
        return cls(size, True, "bicubic", mean, std)

    @classmethod
    def clipseg(cls, size: int) -> Preprocessing:
        """The preprocessing of the CLIPSeg models, which see the whole picture."""
        return cls(size, False, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    @classmethod
    def read(cls, folder: Path, default: Preprocessing) -> Preprocessing:
        """`default` with what `preprocessor_config.json` in `folder` says of size, mean and deviation."""
        path = folder / "preprocessor_config.json"
        if not path.is_file():
            return default
        try:
            configuration: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            mean = tuple(float(value) for value in configuration.get("image_mean", default.mean))
            std = tuple(float(value) for value in configuration.get("image_std", default.std))
            size = configuration.get("crop_size" if default.crop else "size", default.size)
            if isinstance(size, dict):
                size = size.get("height", default.size)
            return replace(default, mean=mean, std=std, size=int(size))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise PerfError(f"the preprocessor file cannot be read: {error}", where=str(path)) from error

    def __call__(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) in 0..1. Returns (B, 3, size, size), normalised."""
        height, width = images.shape[-2:]
        target = (self.size, self.size)
        if self.crop:
            shorter = min(height, width)
            target = (height * self.size // shorter, width * self.size // shorter)
        if target != (height, width):
            images = functional.interpolate(images, target, mode=self.mode, antialias=True)
        top, left = (target[0] - self.size) // 2, (target[1] - self.size) // 2
        images = images[..., top : top + self.size, left : left + self.size].clamp(0, 1)
        mean, std = (
            torch.tensor(values, device=images.device).view(3, 1, 1) for values in (self.mean, self.std)
        )
        return (images - mean) / std
