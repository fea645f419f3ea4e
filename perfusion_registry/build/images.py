"""Images: a concept's photographs and mask files as square tensors, whatever the camera made of them.

Turned upright by their EXIF orientation; transparency is laid on white; of an animation the first frame is
taken; 16-bit greys, palettes and CMYK become 8-bit RGB. Colour profiles are not applied.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from perfusion_registry.errors import PerfError

LARGEST_PIXELS = 50_000_000
SMALLEST_SIDE = 16
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM")
"""Only these are decoded: Pillow reads many more formats, some of them through other programs."""


@dataclass(frozen=True)
class LoadedImage:
    """One image file, upright. name: what to call it. notes: what was done to it that its owner might not
    expect."""

    pixels: Image.Image
    name: str
    notes: tuple[str, ...]


def load_image(source: Path | bytes, name: str | None = None) -> LoadedImage:
    """Read an image file as RGB. Raises PerfError, naming the file, for one that cannot be used."""
    image, name = _decode(source, name)
    notes = []
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        notes.append("is animated; its first frame is used")
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if _opacity(image) < 255:
            notes.append("is transparent; it is laid on white")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return LoadedImage(_eight_bit(image, name).convert("RGB"), name, tuple(notes))


def load_mask(source: Path | bytes, image: LoadedImage, name: str | None = None) -> Image.Image:
    """Read a mask file as greys: white is the concept. A transparent picture is a mask by its opacity.

    Raises PerfError when it cannot be read, is black all over, or has other proportions than its image.
    """
    mask, name = _decode(source, name)
    mask = ImageOps.exif_transpose(mask)
    if mask.has_transparency_data and _opacity(mask) < 255:
        mask = mask.convert("RGBA").getchannel("A")
    mask = _eight_bit(mask, name).convert("L")
    (w, h), (width, height) = mask.size, image.pixels.size
    if abs(w * height - h * width) > 0.01 * w * height:
        what = f"The mask is {w} x {h}, but its image {image.name} is {width} x {height}"
        raise PerfError(what, where=name, hint="save the mask at its image's size")
    if mask.getextrema() == (0, 0):
        raise PerfError("The mask is black all over, so nothing would be learned", where=name)
    return mask


def square(image: Image.Image, size: tuple[int, int]) -> Tensor:
    """Scale the image to cover `size` and crop its middle.

    size: (height, width) in pixels. Returns (C, height, width) fp32 in 0..1; C is 3 for RGB and 1 for greys.
    """
    height, width = size
    fitted = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(fitted, dtype=np.float32) / 255)
    return (pixels[..., None] if pixels.ndim == 2 else pixels).permute(2, 0, 1).contiguous()


def _decode(source: Path | bytes, name: str | None) -> tuple[Image.Image, str]:
    """The decoded first frame, checked for size before any pixel is decoded."""
    name = name or (str(source) if isinstance(source, Path) else f"image of {len(source):,} bytes")
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise PerfError(f"Cannot read the image: {error.strerror or error}", where=name) from error
    if not data:
        raise PerfError("The image file is empty", where=name, hint="copy it again")
    Image.init()
    known = [kind for kind in FORMATS if kind in Image.OPEN]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of sizes that are refused below
            image = Image.open(io.BytesIO(data), formats=known)
            _check_size(image.size, name)
            image.load()
    except Image.DecompressionBombError as error:
        raise PerfError(f"The image is far too large: {error}", where=name, hint="scale it down") from error
    except UnidentifiedImageError as error:
        what = "The file is not an image of a known kind"
        raise PerfError(what, where=name, hint="save it as PNG or JPEG") from error
    except (OSError, SyntaxError, ValueError, IndexError, EOFError, struct.error, zlib.error) as error:
        what = f"The image is damaged: {error}"
        raise PerfError(what, where=name, hint="copy it again, or save it anew as PNG") from error
    return image, name


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width * height > LARGEST_PIXELS:
        what = f"The image has {width * height / 1e6:.0f} megapixels, more than {LARGEST_PIXELS / 1e6:.0f}"
        raise PerfError(what, where=name, hint="scale it down")
    if min(size) < SMALLEST_SIDE:
        what = f"The image is {width} x {height}, too small to learn from"
        raise PerfError(what, where=name, hint="use a larger picture")


def _opacity(image: Image.Image) -> int:
    """The smallest alpha of any pixel, 0 to 255."""
    return int(np.asarray(image.convert("RGBA").getchannel("A")).min())


def _eight_bit(image: Image.Image, name: str) -> Image.Image:
    """Greys of 16 bits, which Pillow would clip rather than scale, as greys of 8."""
    if image.mode == "F":
        what = "The image holds floating-point pixels"
        raise PerfError(what, where=name, hint="save it as an 8-bit PNG")
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.array(image).astype(np.float64)
        return Image.fromarray((values / 257).round().clip(0, 255).astype(np.uint8))
    return image
