"""How alike pictures and texts are, by a CLIP model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from perfusion_registry.base.pixels import Preprocessing
from perfusion_registry.base.pretrained import BROKEN, load_pretrained, quiet
from perfusion_registry.base.weights import tensor_entries, weight_files
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from perfusion_registry.base.identity import BaseDescription


class Scorer:
    """A frozen CLIP model; its features are unit vectors, so that dot products are cosine similarities.

    It is loaded when something is first scored, for most that is drawn never is.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Look for the CLIP model in `folder`. Raises PerfError when it is missing or torn."""
        if not folder.is_dir():
            raise PerfError("the CLIP model is missing", where=str(folder))
        files = weight_files(folder)
        if not files:
            what = "the CLIP model cannot be loaded: there are no safetensors weights"
            raise PerfError(what, where=str(folder), hint=BROKEN)
        for file in files:
            if file.suffix == ".safetensors":
                tensor_entries(file)
        self.device = device
        self._folder = folder
        self._loading = Lock()
        self._parts: tuple[Any, Any, Preprocessing] | None = None

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> Scorer:
        """Load the CLIP model in `folder` at once. Raises PerfError when it is missing or broken."""
        made = cls(folder, device)
        made.parts()
        return made

    def parts(self) -> tuple[Any, Any, Preprocessing]:
        """The model, its tokenizer and what it does to pictures; loads them the first time. Raises PerfError
        when they are broken."""
        with self._loading:
            if self._parts is None:
                with quiet():
                    from transformers import CLIPModel, CLIPTokenizer

                model = load_pretrained(CLIPModel, self._folder, "the CLIP model")
                tokenizer = load_pretrained(CLIPTokenizer, self._folder, "the CLIP tokenizer")
                usual = Preprocessing.clip(model.config.vision_config.image_size)
                preprocessing = Preprocessing.read(self._folder, usual)
                model = model.to(self.device, torch.float32).eval().requires_grad_(False)
                self._parts = model, tokenizer, preprocessing
            return self._parts

    @property
    def preprocessing(self) -> Preprocessing:
        """What the model does to pictures."""
        return self.parts()[2]

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
        model, _, preprocessing = self.parts()
        with torch.autocast(self.device.type, enabled=False):
            pixels = preprocessing(images.to(self.device, torch.float32))
            pooled = model.vision_model(pixel_values=pixels).pooler_output
            return functional.normalize(model.visual_projection(pooled), dim=-1)

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Returns (len(texts), f) unit vectors, fp32. A text that is too long is cut."""
        model, tokenizer, _ = self.parts()
        with torch.autocast(self.device.type, enabled=False):
            length = model.config.text_config.max_position_embeddings
            tokens = tokenizer(
                list(texts), padding=True, truncation=True, max_length=length, return_tensors="pt"
            ).to(self.device)
            pooled = model.text_model(**tokens).pooler_output
            return functional.normalize(model.text_projection(pooled), dim=-1)
