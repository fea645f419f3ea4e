"""Soft masks of what a word names in a picture, by CLIPSeg (Section 4.4, zero-shot weighting)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from perfusion_registry.base.hub import model_folder
from perfusion_registry.base.pixels import Preprocessing
from perfusion_registry.base.pretrained import load_pretrained, quiet
from perfusion_registry.base.reference import BaseReference

CLIPSEG = "CIDAS/clipseg-rd64-refined"


class Segmenter:
    """A frozen CLIPSeg model."""

    def __init__(
        self, model: Any, tokenizer: Any, preprocessing: Preprocessing, device: torch.device
    ) -> None:
        self.model = model.to(device, torch.float32).eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.preprocessing = preprocessing
        self.device = device

    @classmethod
    def load(
        cls,
        source: str | Path = CLIPSEG,
        device: str | torch.device = "cpu",
        *,
        allow_download: bool | None = None,
    ) -> Segmenter:
        """Load a model from a folder or the Hub.

        source: a folder, or "owner/name" or "owner/name@revision". allow_download: whether a hub model that
        is not here may be downloaded; None asks PERF_ALLOW_DOWNLOAD. Raises PerfError when it is not here
        and may not be downloaded, or is broken.
        """
        with quiet():
            from transformers import CLIPSegForImageSegmentation, CLIPTokenizer

        if isinstance(source, Path):
            folder = source
        else:
            reference = BaseReference.parse(source)
            folder = Path(source) if reference.kind == "path" else model_folder(reference, allow_download)
        model = load_pretrained(CLIPSegForImageSegmentation, folder, "the segmentation model")
        tokenizer = load_pretrained(CLIPTokenizer, folder, "the segmentation model's tokenizer")
        default = Preprocessing.clipseg(352)
        return cls(model, tokenizer, Preprocessing.read(folder, default), torch.device(device))

    @torch.no_grad()
    def masks(self, images: Tensor, word: str) -> Tensor:
        """How surely each place of each picture shows what `word` names.

        images: (B, 3, H, W) in 0..1. Returns (B, H, W) fp32 probabilities on the model's device.
        """
        count, _, height, width = images.shape
        with torch.autocast(self.device.type, enabled=False):
            pixels = self.preprocessing(images.to(self.device, torch.float32))
            tokens = self.tokenizer([word], truncation=True, return_tensors="pt").to(self.device)
            ids = tokens.input_ids.expand(count, -1)
            logits = self.model(input_ids=ids, pixel_values=pixels).logits
            logits = logits.reshape(count, 1, *logits.shape[-2:])
            return functional.interpolate(logits, (height, width), mode="bilinear")[:, 0].sigmoid()
