"""Pictures inside a page: small, as data URLs, so that a report is one file."""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from perfusion_registry.errors import PerfError

SIDE = 160
"""Pixels of a picture's longer side in a report, at most."""


@lru_cache(maxsize=4096)
def picture(path: Path) -> str:
    """A picture as a data URL. Raises PerfError for one that is missing or damaged."""
    return _url(_open(path))


@lru_cache(maxsize=1024)
def spotlit(path: Path, attention: Path) -> str:
    """A picture lit where the attention is, and dark elsewhere, as a data URL."""
    image = _open(path)
    shares = np.asarray(_opened(attention, None), dtype=np.float32)
    shares = (shares - shares.min()) / max(float(np.ptp(shares)), 1e-9)
    light = Image.fromarray((255 * shares).astype(np.uint8)).resize(image.size, Image.Resampling.BICUBIC)
    dark = Image.blend(Image.new("RGB", image.size, (12, 12, 16)), image.convert("L").convert("RGB"), 0.28)
    return _url(Image.composite(image, dark, light))


def _open(path: Path) -> Image.Image:
    image = _opened(path, "RGB")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return image


def _opened(path: Path, mode: str | None) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image.convert(mode) if mode else image.copy()
    except (OSError, ValueError, SyntaxError) as error:
        raise PerfError(
            f"a picture of the results cannot be shown: {error}",
            where=str(path),
            hint="run `perf evaluate` again; what is cached is not drawn again",
        ) from error


def _url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=86, method=4)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
