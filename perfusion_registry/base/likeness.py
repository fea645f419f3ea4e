"""Likeness by a self-supervised vision model such as DINO, from a local folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from perfusion_registry.base.pixels import Preprocessing
from perfusion_registry.base.pretrained import load_pretrained, quiet
from perfusion_registry.errors import PerfError

IMAGENET = Preprocessing(
    224, crop=True, mode="bicubic", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)


class Likeness:
    """A frozen vision transformer; the features of its class token are unit vectors."""

    def __init__(self, model: Any, preprocessing: Preprocessing, device: torch.device) -> None:
        self.model = model.to(device, torch.float32).eval().requires_grad_(False)
        self.preprocessing = preprocessing
        self.device = device

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> Likeness:
        """Load the model in a folder. Raises PerfError when it is missing, broken, or no vision model."""
        with quiet():
            from transformers import AutoModel

        model = load_pretrained(AutoModel, folder, "the DINO model")
        if not hasattr(model.config, "image_size"):
            raise PerfError("the model is no vision transformer", where=str(folder))
        # A plain vision transformer takes its own size alone; what the preprocessor's file says goes first.
        default = replace(IMAGENET, size=model.config.image_size)
        return cls(model, Preprocessing.read(folder, default), device)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) in 0..1. Returns (B, f) unit vectors, fp32."""
        with torch.autocast(self.device.type, enabled=False):
            pixels = self.preprocessing(images.to(self.device, torch.float32))
            states = self.model(pixel_values=pixels).last_hidden_state  # (B, 1 + patches, f)
            return functional.normalize(states[:, 0], dim=-1)
