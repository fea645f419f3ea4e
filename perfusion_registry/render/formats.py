"""The formats of picture files, each with texts of ours: PNG, JPEG and WebP."""

from __future__ import annotations

import struct
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from PIL import Image, PngImagePlugin, features

from perfusion_registry.errors import PerfError
from perfusion_registry.render import exif

PictureFormat = Literal["png", "jpeg", "webp"]

FORMATS: dict[PictureFormat, tuple[str, ...]] = {
    "png": (".png",),
    "jpeg": (".jpg", ".jpeg"),
    "webp": (".webp",),
}
"""How names of each end, the usual ending first."""

NAMES = {"png": "PNG", "jpeg": "JPEG", "webp": "WebP"}

QUALITY = 90
"""Of JPEG and WebP, out of 100, where nobody says."""

_SHORT = 100  # characters of a record that are not worth packing

_LONGEST_SIDE = {"png": 2**31 - 1, "jpeg": 65_535, "webp": 16_383}
_DAMAGED = (
    ValueError,
    SyntaxError,
    struct.error,
    KeyError,
    IndexError,
    TypeError,
    Image.DecompressionBombError,
)


def format_of(path: Path) -> PictureFormat | None:
    """The format that a file's name asks for; None where it ends like none of them."""
    suffix = path.suffix.lower()
    return next((name for name, endings in FORMATS.items() if suffix in endings), None)


def read_format(text: str | None) -> PictureFormat | None:
    """The format of that name, or of that ending; None where nothing is said. Raises PerfError for others."""
    if text is None:
        return None
    for kind, endings in FORMATS.items():
        if text.lower() == kind or f".{text.lower().removeprefix('.')}" in endings:
            return kind
    raise PerfError(
        f"pictures are not written as {text}", where="--format", hint="it can be png, jpeg or webp"
    )


def encoded(
    image: Image.Image,
    kind: PictureFormat,
    key: str,
    record: str,
    *,
    description: str = "",
    software: str = "",
    parameters: str = "",
    quality: int | None = None,
) -> bytes:
    """Encode an RGB picture with texts: the same picture and texts give the same bytes.

    key, record: what `read_text` finds. parameters: as A1111 writes them. quality: 1 to 100 of JPEG and WebP,
    whose 100 loses nothing; None is `QUALITY`. Raises PerfError where the file cannot hold the texts, or the
    picture.
    """
    if max(image.size) > _LONGEST_SIDE[kind]:
        raise PerfError(
            f"a picture of {image.width}x{image.height} pixels is too large for {NAMES[kind]}",
            hint="write it as PNG",
        )
    how: dict[str, Any] = {}
    if kind == "png":
        chunks = PngImagePlugin.PngInfo()
        for name, text in (("Description", description), ("Software", software)):
            if text:
                chunks.add_itxt(name, text)
        chunks.add_itxt(key, record, zip=len(record) > _SHORT)
        if parameters:
            chunks.add_text("parameters", parameters)
        how["pnginfo"] = chunks
    else:
        block = exif_of(kind, key, record, description, software, parameters)
        how |= {"exif": b"Exif\0\0" + block, "quality": quality or QUALITY}
        how |= {"subsampling": "4:4:4"} if kind == "jpeg" else {"lossless": quality == 100, "method": 4}
    file = BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def exif_of(
    kind: PictureFormat, key: str, record: str, description: str, software: str, parameters: str
) -> bytes:
    """The EXIF that `encoded` writes. Raises PerfError where a JPEG file cannot hold it."""
    block = exif.exif_block(key, record, description=description, software=software, comment=parameters)
    if kind == "jpeg" and len(block) > exif.LARGEST:
        raise PerfError(
            f"the record of how this picture was drawn is {len(block):,} bytes long with its prompt, and a "
            f"JPEG file holds {exif.LARGEST:,}",
            hint="write it as PNG or WebP",
        )
    return block


def check_writable(kind: PictureFormat) -> None:
    """Raise PerfError for a format that the Pillow here cannot write."""
    if kind == "webp" and not features.check("webp"):
        raise PerfError("the Pillow here was built without WebP", hint="write PNG or JPEG")


def read_text(path: Path, key: str, largest: int) -> str | None:
    """Read one text of a picture, without decoding its pixels; None when it has none.

    Raises PerfError where the file is missing, or is no picture in one of the formats that can be read.
    """
    where = str(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures and of EXIF that is not as it should be
            with Image.open(path, formats=[name.upper() for name in FORMATS]) as image:
                text = image.info.get(key) if image.format == "PNG" else None
                if text is None:
                    return exif.own_record(image.getexif().get(exif.OWN), key, largest)
    except FileNotFoundError as error:
        raise PerfError("there is no picture here", where=where) from error
    except OSError as error:
        raise PerfError(
            "this is not a PNG, JPEG or WebP picture that can be read: "
            f"{error.strerror or 'damaged, or another format'}",
            where=where,
            hint="`--from` takes a picture that `perf render` has written",
        ) from error
    except _DAMAGED as error:
        raise PerfError(f"the picture is damaged or hostile: {error}", where=where) from error
    return text if isinstance(text, str) else None
