"""Images: whatever a camera or a browser saves is either squared rightly or refused by name."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from perfusion_registry.build.images import load_image, load_mask, square
from perfusion_registry.errors import PerfError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def halves(left: tuple[int, ...], right: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    """A 40 x 20 picture: its left half one colour, its right half another."""
    image = Image.new(mode, (40, 20), left)
    image.paste(right, (20, 0, 40, 20))
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def sixteen_bit() -> bytes:
    grey = np.full((20, 40), 65535, np.uint16)
    grey[:, 20:] = 0x7FFF
    return encoded(Image.fromarray(grey))


def turned() -> bytes:
    """Stored on its side, with the EXIF orientation that puts it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    return encoded(halves(RED, BLUE).rotate(90, expand=True), exif=exif)


def animated() -> bytes:
    return encoded(halves(RED, BLUE), "GIF", save_all=True, append_images=[halves(GREEN, GREEN)])


# Name: (bytes, the colours of the left and the right, part of a note).
READABLE: dict[str, tuple[Callable[[], bytes], tuple[int, ...], tuple[int, ...], str]] = {
    "rgb": (lambda: encoded(halves(RED, BLUE)), RED, BLUE, ""),
    "jpeg": (lambda: encoded(halves(RED, BLUE), "JPEG", quality=95), RED, BLUE, ""),
    "cmyk": (lambda: encoded(halves(WHITE, RED).convert("CMYK"), "JPEG", quality=95), WHITE, RED, ""),
    "webp": (lambda: encoded(halves(RED, BLUE), "WEBP", lossless=True), RED, BLUE, ""),
    "palette": (lambda: encoded(halves(RED, BLUE).convert("P")), RED, BLUE, ""),
    "grey": (lambda: encoded(halves((255,), (0,), "L")), WHITE, (0, 0, 0), ""),
    "16 bits": (sixteen_bit, WHITE, (127, 127, 127), ""),
    "one bit": (lambda: encoded(halves((255,), (0,), "L").convert("1")), WHITE, (0, 0, 0), ""),
    "transparent": (lambda: encoded(halves((0, 0, 0, 0), (0, 0, 255, 255), "RGBA")), WHITE, BLUE, "on white"),
    "half transparent": (lambda: encoded(halves((0, 0, 0, 128), BLUE, "RGBA")), (127,) * 3, BLUE, "on white"),
    "opaque with alpha": (lambda: encoded(halves(RED, BLUE, "RGBA")), RED, BLUE, ""),
    "animated": (animated, RED, BLUE, "first frame"),
    "on its side": (turned, RED, BLUE, ""),
}


@pytest.mark.parametrize("case", READABLE)
def test_readable_images_come_out_right(case: str) -> None:
    make, left, right, note = READABLE[case]
    image = load_image(make(), "photo")
    assert image.pixels.mode == "RGB"
    assert image.pixels.size == (40, 20)
    for x, colour in ((5, left), (34, right)):
        got = image.pixels.getpixel((x, 10))
        assert np.abs(np.subtract(got, colour)).max() <= 6, (x, got)
    assert note in " ".join(image.notes)
    assert bool(image.notes) == bool(note)


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 100,000 x 100,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = (100_000).to_bytes(4, "big")
    header = chunk(b"IHDR", size + size + bytes([8, 2, 0, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def damaged(kind: str, cut: float) -> Callable[[], bytes]:
    def make() -> bytes:
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        data = encoded(Image.fromarray(noise), kind)
        return data[: int(len(data) * cut)]

    return make


def broken_checksum() -> bytes:
    data = bytearray(encoded(halves(RED, BLUE)))
    data[data.index(b"IDAT") + 8] ^= 0xFF
    return bytes(data)


UNREADABLE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty"),
    "text": (lambda: b"<html>not found</html>", "not an image"),
    "postscript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "not an image"),
    "cut png": (damaged("PNG", 0.5), "damaged"),
    "cut jpeg": (damaged("JPEG", 0.5), "damaged"),
    "cut webp": (damaged("WEBP", 0.5), "damaged|not an image"),
    "cut header": (damaged("PNG", 0.002), "damaged|not an image"),
    "broken checksum": (broken_checksum, "damaged"),
    "bomb": (bomb, "far too large|megapixels"),
    "60 megapixels": (lambda: b"P6 10000 6000 255\n", "60 megapixels"),
    "tiny": (lambda: encoded(Image.new("RGB", (9, 9))), "9 x 9"),
    "floating-point": (lambda: encoded(Image.new("F", (20, 20)), "TIFF"), "floating-point"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_unusable_images_are_refused_by_name(tmp_path: Path, case: str) -> None:
    make, what = UNREADABLE[case]
    path = tmp_path / "photo.png"
    path.write_bytes(make())
    with pytest.raises(PerfError, match=what) as caught:
        load_image(path)
    assert caught.value.where == str(path)


def test_a_missing_image_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "no.png", tmp_path):
        with pytest.raises(PerfError, match="Cannot read") as caught:
            load_image(path)
        assert caught.value.where == str(path)


def test_squaring_takes_the_middle_of_the_shortest_side() -> None:
    image = Image.new("RGB", (90, 30), RED)
    image.paste(BLUE, (30, 0, 60, 30))
    assert float(square(image, (16, 16))[2].mean()) > 0.99
    assert square(image.convert("L"), (8, 16)).shape == (1, 8, 16)


def test_squaring_keeps_left_left_and_up_up() -> None:
    pixels = square(halves(RED, BLUE), (8, 8))
    assert pixels[0, :, 0].min() > 0.9
    assert pixels[2, :, -1].min() > 0.9
    top = Image.new("RGB", (20, 20), GREEN)
    top.paste(BLUE, (0, 0, 20, 10))
    assert square(top, (4, 4))[2, 0].min() > 0.9


def test_masks_are_greys_of_their_image() -> None:
    image = load_image(encoded(halves(RED, BLUE)), "photo")
    mask = load_mask(encoded(halves((0,), (200,), "L").resize((80, 40))), image, "mask")
    assert mask.getpixel((70, 20)) == 200
    cut_out = load_mask(encoded(halves((9, 9, 9, 0), (9, 9, 9, 255), "RGBA")), image, "mask")
    assert (cut_out.getpixel((5, 10)), cut_out.getpixel((35, 10))) == (0, 255)


@pytest.mark.parametrize(
    ("mask", "what"),
    [
        (Image.new("L", (40, 20)), "black all over"),
        (Image.new("L", (20, 20), 255), "20 x 20, but its image photo"),
    ],
)
def test_unusable_masks_are_refused(mask: Image.Image, what: str) -> None:
    image = load_image(encoded(halves(RED, BLUE)), "photo")
    with pytest.raises(PerfError, match=what) as caught:
        load_mask(encoded(mask), image, "mask")
    assert caught.value.where == "mask"
