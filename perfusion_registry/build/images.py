"""Images: a concept's photographs and mask files as 8-bit sRGB and greys, whatever the camera made of them.

Turned upright by their EXIF orientation; transparency is laid on white; of an animation the first frame is
taken; colours of another profile are converted to sRGB; 16-bit greys, palettes and CMYK become 8-bit RGB.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from perfusion_registry.errors import PerfError

LARGEST_PIXELS = 50_000_000
SMALLEST_SIDE = 16
MOST_CUT = 0.5
"""An image of which a smaller share is used is told. Of a photograph of 16 x 9 it is 0.56."""
MOST_ENLARGED = 2.0
"""An image that is enlarged by more is told."""
ONE_PICTURE = (
    "there is one picture only, so how the thing stands and what is around it is learned with it; four or "
    "five from several sides and places serve better"
)
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
    opacity = _opacity(image)
    image.info.pop("transparency", None)  # it is known now, and Pillow warns of palettes that have it
    image, converted = _in_srgb(_eight_bit(image, name))
    notes += converted
    if opacity is not None:
        if opacity.max() == 0:
            what = "The image is wholly transparent, so there is nothing to learn"
            raise PerfError(
                what, where=name, hint="use a picture with something in it, or remove its transparency"
            )
        notes.append("is transparent; it is laid on white")
        white = Image.new("RGBA", image.size, "white")
        image.putalpha(Image.fromarray(opacity))
        image = Image.alpha_composite(white, image).convert("RGB")
    return LoadedImage(image, name, tuple(notes))


def notes_on_squaring(image: LoadedImage, size: tuple[int, int]) -> list[str]:
    """What its owner might not expect of cutting and scaling the image to `size`, (height, width)."""
    height, width = size
    w, h = image.pixels.size
    scale = max(width / w, height / h)
    kept = round(width / scale), round(height / scale)
    notes = []
    if kept[0] * kept[1] < MOST_CUT * w * h:
        notes.append(f"is {w} x {h}; only its middle, {kept[0]} x {kept[1]}, is used")
    if scale > MOST_ENLARGED:
        larger = "a larger picture would serve better"
        notes.append(f"is {w} x {h}; it is enlarged {scale:.3g} times, so {larger}")
    return notes


def notes_on_all(images: Sequence[LoadedImage]) -> list[str]:
    """What their owner might not expect of learning from these images together."""
    notes = [ONE_PICTURE] if len(images) == 1 else []
    first: dict[tuple[tuple[int, int], bytes], str] = {}
    for image in images:
        if image.pixels.getcolors(1) is not None:
            notes.append(f"{image.name} has one colour all over, so there is nothing in it to learn")
        pixels = image.pixels.size, sha256(image.pixels.tobytes()).digest()
        if first.setdefault(pixels, image.name) != image.name:
            notes.append(f"{image.name} is the same picture as {first[pixels]}, which counts twice so")
    return notes


def open_picture(path: Path, mask: Path | None = None) -> None:
    """Read a picture, and the mask that is to be read with it, as a build does. Raises PerfError, naming the
    file, for one that cannot be used."""
    image = load_image(path)
    if mask is not None:
        load_mask(mask, image)


def load_mask(source: Path | bytes, image: LoadedImage, name: str | None = None) -> Image.Image:
    """Read a mask file as greys: white is the concept. A transparent picture is a mask by its opacity.

    Raises PerfError when it cannot be read, is black all over, or has other proportions than its image.
    """
    mask, name = _decode(source, name)
    mask = ImageOps.exif_transpose(mask)
    opacity = _opacity(mask)
    mask.info.pop("transparency", None)
    mask = _eight_bit(mask, name).convert("L") if opacity is None else Image.fromarray(opacity)
    (w, h), (width, height) = mask.size, image.pixels.size
    if abs(w * height - h * width) > 0.01 * w * height:
        what = f"The mask is {w} x {h}, but its image {image.name} is {width} x {height}"
        raise PerfError(what, where=name, hint="save the mask at its image's size")
    if mask.getextrema() == (0, 0):
        raise PerfError("The mask is black all over, so there is nothing in it", where=name)
    return mask


def _decode(source: Path | bytes, name: str | None) -> tuple[Image.Image, str]:
    """The decoded first frame, checked for size before any pixel is decoded."""
    name = name or (str(source) if isinstance(source, Path) else f"image of {len(source):,} bytes")
    try:
        data = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        what = f"Cannot read the image: {error.strerror or error}"
        raise PerfError(what, where=name, hint="name the file of a picture that you can read") from error
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
        raise PerfError(what, where=name, hint=_instead(name)) from error
    except (OSError, SyntaxError, ValueError, IndexError, EOFError, struct.error, zlib.error) as error:
        what = f"The image is damaged: {error}"
        raise PerfError(what, where=name, hint="copy it again, or save it anew as PNG") from error
    return image, name


def _instead(name: str) -> str:
    """What to do about a file that is no image, by its name."""
    suffix = Path(name).suffix.lower()
    if suffix in (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".xz", ".zst"):
        return "unpack it, and name the folder or the pictures in it"
    if suffix in (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"):
        return "a film is no picture: save some of its frames as PNG or JPEG"
    return "save it as PNG or JPEG"


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width * height > LARGEST_PIXELS:
        what = f"The image has {width * height / 1e6:.0f} megapixels, more than {LARGEST_PIXELS / 1e6:.0f}"
        raise PerfError(what, where=name, hint="scale it down")
    if min(size) < SMALLEST_SIDE:
        what = f"The image is {width} x {height}, too small to learn from"
        raise PerfError(what, where=name, hint="use a larger picture")


def _opacity(image: Image.Image) -> NDArray[np.uint8] | None:
    """How opaque each pixel is, (H, W) of 0 to 255; None where all are wholly."""
    if not image.has_transparency_data:
        return None
    clear = image.info.get("transparency")
    if _is_sixteen_bit(image) and isinstance(clear, int):  # Pillow would look for the colour in 8 bits
        opacity = np.where(np.array(image) == clear, 0, 255).astype(np.uint8)
    else:
        if (
            isinstance(clear, tuple) and max(clear) > 255
        ):  # a colour of 16 bits, of pixels that were read as 8
            image.info["transparency"] = tuple(value >> 8 for value in clear)
        opacity = np.array(image.convert("RGBA").getchannel("A"))
    return None if opacity.min() == 255 else opacity


def _eight_bit(image: Image.Image, name: str) -> Image.Image:
    """Greys of 16 bits, which Pillow would clip rather than scale, as greys of 8."""
    if image.mode == "F":
        what = "The image holds floating-point pixels"
        raise PerfError(what, where=name, hint="save it as an 8-bit PNG")
    if _is_sixteen_bit(image):
        values = np.array(image).astype(np.float64)
        if values.min() < 0 or values.max() > 65535:
            what = "The image holds pixels of 32 bits"
            raise PerfError(what, where=name, hint="save it as an 8-bit PNG")
        grey = Image.fromarray((values / 257).round().astype(np.uint8))
        grey.info = dict(image.info)
        return grey
    return image


def _is_sixteen_bit(image: Image.Image) -> bool:
    return image.mode == "I" or image.mode.startswith("I;16")


def _in_srgb(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """The colours of an 8-bit image in sRGB, without its transparency; and what was done, as notes."""
    profile = image.info.get("icc_profile")
    colours = image if image.mode in ("L", "CMYK") else image.convert("RGB")
    if not profile:
        return colours.convert("RGB"), []
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        called = ImageCms.getProfileDescription(given).strip() or "without a name"
        if called.lower().startswith("srgb"):
            return colours.convert("RGB"), []
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(colours, given, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        return colours.convert("RGB"), [
            f"has a colour profile that cannot be used ({error}); it is read as sRGB"
        ]
    assert converted is not None  # only of a conversion in place
    return converted, [f"has the colour profile {called}; it is converted to sRGB"]
