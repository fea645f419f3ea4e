"""How alike pictures and texts are, by a CLIP model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from perfusion_registry.base.pixels import Preprocessing
from perfusion_registry.base.pretrained import load_pretrained, quiet
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from perfusion_registry.base.identity import BaseDescription


class Scorer:
    """A frozen CLIP model; its features are unit vectors, so that dot products are cosine similarities."""

    def __init__(
        self, model: Any, tokenizer: Any, preprocessing: Preprocessing, device: torch.device
    ) -> None:
        self.model = model.to(device, torch.float32).eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.preprocessing = preprocessing
        self.device = device

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> Scorer:
        """Load the CLIP model in `folder`. Raises PerfError when it is missing or broken."""
        with quiet():
            from transformers import CLIPModel, CLIPTokenizer

        model = load_pretrained(CLIPModel, folder, "the CLIP model")
        tokenizer = load_pretrained(CLIPTokenizer, folder, "the CLIP tokenizer")
        preprocessing = Preprocessing.read(folder, Preprocessing.clip(model.config.vision_config.image_size))
        return cls(model, tokenizer, preprocessing, device)

    @classmethod
    def of(cls, description: BaseDescription, device: torch.device) -> Scorer:
        """Load the CLIP model beside a base, and nothing else of it. Raises PerfError where it has none."""
        if description.clip is None:
            raise PerfError(
                f"the base {description.repo} has no CLIP model to compare images and words with",
                where=str(description.folder),
                hint="name one as `scorer` under [base] in perfusion.toml",
            )
        return cls.load(description.clip, device)

    @torch.no_grad()
    def image_features(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) in 0..1, any size. Returns (B, f) unit vectors, fp32."""
        with torch.autocast(self.device.type, enabled=False):
            pixels = self.preprocessing(images.to(self.device, torch.float32))
            pooled = self.model.vision_model(pixel_values=pixels).pooler_output
            return functional.normalize(self.model.visual_projection(pooled), dim=-1)

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Returns (len(texts), f) unit vectors, fp32. A text that is too long is cut."""
        with torch.autocast(self.device.type, enabled=False):
            length = self.model.config.text_config.max_position_embeddings
            tokens = self.tokenizer(
                list(texts), padding=True, truncation=True, max_length=length, return_tensors="pt"
            ).to(self.device)
            pooled = self.model.text_model(**tokens).pooler_output
            return functional.normalize(self.model.text_projection(pooled), dim=-1)
