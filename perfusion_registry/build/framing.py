"""Framing: images as square tensors, and at several sizes, so that concepts are known when drawn small."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional


def square(image: Image.Image, size: tuple[int, int]) -> Tensor:
    """Scale the image to cover `size` and crop its middle.

    size: (height, width) in pixels. Returns (C, height, width) fp32 in 0..1; C is 3 for RGB and 1 for greys.
    """
    height, width = size
    fitted = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(fitted, dtype=np.float32) / 255)
    return (pixels[..., None] if pixels.ndim == 2 else pixels).permute(2, 0, 1).contiguous()


def sizes_of(image: Image.Image, size: tuple[int, int]) -> tuple[int, int, int, int, int, int]:
    """What denoisers that are told of it hear of an image that `square` has made of `size`, in pixels: the
    height and width that it had, how far from the top and the left of the scaled image it was cropped, and
    the height and width that it has."""
    height, width = size
    scale = max(width / image.width, height / image.height)
    top, left = round((image.height * scale - height) / 2), round((image.width * scale - width) / 2)
    return image.height, image.width, top, left, height, width


def framed(images: Tensor, masks: Tensor, sizes: Sequence[float], seed: int) -> tuple[Tensor, Tensor]:
    """Every image at every size; one that leaves room lies at a drawn place, its edges stretched outwards.

    images: (N, 3, H, W) in 0..1. masks: (N, 1, H, W). sizes: S shares of the frame, over 0 and at most 1.
    Returns (S N, 3, H, W) and (S N, 1, H, W), size by size. The stretched edges are masked, so nothing is
    learned from them.
    """
    generator = torch.Generator().manual_seed(seed)
    H, W = images.shape[-2:]
    shown, weights = [], []
    for size in sizes:
        h, w = max(1, round(H * size)), max(1, round(W * size))
        for image, mask in zip(images[:, None], masks[:, None], strict=True):
            top, left = (int(torch.randint(room + 1, (), generator=generator)) for room in (H - h, W - w))
            margins = (left, W - w - left, top, H - h - top)
            small, weight = (functional.interpolate(x, (h, w), mode="area") for x in (image, mask))
            shown.append(functional.pad(small, margins, mode="replicate"))
            weights.append(functional.pad(weight, margins))
    return torch.cat(shown), torch.cat(weights)
