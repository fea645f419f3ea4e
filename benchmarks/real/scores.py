"""How alike pictures are to a subject, and to their prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.real.subjects import Subject
from perfusion_registry.base import Scorer
from perfusion_registry.base.likeness import Likeness
from perfusion_registry.build.framing import square
from perfusion_registry.build.images import load_image
from perfusion_registry.evaluate.plan import omitted


class Scores:
    """image: mean CLIP cosine to each of a subject's pictures. text: CLIP cosine to the prompt without its
    word, as `perf evaluate` has both. dino: as `image`, by a DINO model. What is None is not told."""

    def __init__(self, clip: Scorer | None, dino: Likeness | None) -> None:
        self.clip, self.dino = clip, dino
        self._own: dict[tuple[str, int], tuple[Tensor | None, Tensor | None]] = {}

    def of(self, path: Path, subject: Subject, template: str) -> dict[str, float]:
        with Image.open(path) as opened:
            pixels = torch.from_numpy(np.array(opened.convert("RGB"))).permute(2, 0, 1).float()[None] / 255
        clip, dino = self._references(subject, pixels.shape[-1])
        found = {}
        if self.clip is not None and clip is not None:
            seen = self.clip.image_features(pixels).cpu()[0]
            text = self.clip.text_features([omitted(template)])[0].cpu()
            found |= {"image": float((clip @ seen).mean()), "text": float(text @ seen)}
        if self.dino is not None and dino is not None:
            found["dino"] = float((dino @ self.dino.features(pixels).cpu()[0]).mean())
        return found

    def _references(self, subject: Subject, side: int) -> tuple[Tensor | None, Tensor | None]:
        """Features (N, f) of its own pictures, squared as training has them."""
        known = self._own.get((subject.name, side))
        if known is None:
            pictures: Sequence[Image.Image] = [load_image(path).pixels for path in subject.pictures]
            images = torch.stack([square(picture, (side, side)) for picture in pictures])
            known = (
                None if self.clip is None else self.clip.image_features(images).cpu(),
                None if self.dino is None else self.dino.features(images).cpu(),
            )
            self._own[subject.name, side] = known
        return known
