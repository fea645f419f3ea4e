"""Images: whatever a camera or a browser saves is either squared rightly or refused by name."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from perfusion_registry.build.framing import square
from perfusion_registry.build.images import load_image, load_mask, notes_on_all, notes_on_squaring
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


def sixteen_bit_with_clear(mode: str) -> bytes:
    """A PNG of 16 bits: on the left the colour that a tRNS chunk makes transparent, on the right a grey."""
    channels, kind = {"L": (1, 0), "RGB": (3, 2)}[mode]
    left, right = [40_000, 1_000, 1_000][:channels], [0x7F7F] * channels
    row = b"\0" + b"".join(value.to_bytes(2, "big") for value in left * 20 + right * 20)
    clear = b"".join(value.to_bytes(2, "big") for value in left)
    header = (40).to_bytes(4, "big") + (20).to_bytes(4, "big") + bytes([16, kind, 0, 0, 0])
    chunks = [(b"IHDR", header), (b"tRNS", clear), (b"IDAT", zlib.compress(row * 20)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, data) for kind, data in chunks)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


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
    "palette, partly clear": (
        lambda: encoded(halves(RED, BLUE).quantize(2), transparency=bytes([0, 128])),
        WHITE,
        (127, 127, 255),
        "on white",
    ),
    "grey": (lambda: encoded(halves((255,), (0,), "L")), WHITE, (0, 0, 0), ""),
    "16 bits": (sixteen_bit, WHITE, (127, 127, 127), ""),
    "16 bits, one colour clear": (lambda: sixteen_bit_with_clear("L"), WHITE, (127,) * 3, "on white"),
    "16 bits of RGB, one colour clear": (
        lambda: sixteen_bit_with_clear("RGB"),
        WHITE,
        (127,) * 3,
        "on white",
    ),
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
    data = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what Pillow thinks of a file is nothing for a person
        image = load_image(data, "photo")
    assert image.pixels.mode == "RGB"
    assert image.pixels.size == (40, 20)
    for x, colour in ((5, left), (34, right)):
        got = image.pixels.getpixel((x, 10))
        assert np.abs(np.subtract(got, colour)).max() <= 6, (x, got)
    assert note in " ".join(image.notes)
    assert bool(image.notes) == bool(note)


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 100,000 x 100,000 pixels."""

    size = (100_000).to_bytes(4, "big")
    header = png_chunk(b"IHDR", size + size + bytes([8, 2, 0, 0, 0]))
    return (
        b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(9))) + png_chunk(b"IEND", b"")
    )


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
    "wholly transparent": (lambda: encoded(Image.new("RGBA", (20, 20))), "wholly transparent"),
    "32 bits": (lambda: encoded(Image.new("I", (20, 20), 70_000), "TIFF"), "32 bits"),
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


def profile(primaries: tuple[tuple[float, float], ...], exponent: float) -> bytes:
    """An ICC profile (version 2) of an RGB space with a white of D50. primaries: chromaticities (x, y)."""
    white = np.array([0.9642, 1.0, 0.8249])
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries]).T
    columns = columns * np.linalg.solve(columns, white)

    def fixed(values: Sequence[float]) -> bytes:
        return b"".join(round(value * 65536).to_bytes(4, "big", signed=True) for value in values)

    name = b"of the tests\0"
    curve = b"curv" + bytes(4) + (1).to_bytes(4, "big") + round(exponent * 256).to_bytes(2, "big") + bytes(2)
    tags = {
        b"desc": b"desc" + bytes(4) + len(name).to_bytes(4, "big") + name + bytes(78),
        b"wtpt": b"XYZ " + bytes(4) + fixed(white.tolist()),
    }
    for letter, column in zip("rgb", columns.T, strict=True):
        tags[f"{letter}XYZ".encode()] = b"XYZ " + bytes(4) + fixed(column.tolist())
        tags[f"{letter}TRC".encode()] = curve
    table, body = len(tags).to_bytes(4, "big"), b""
    for tag, data in tags.items():
        start = 132 + 12 * len(tags) + len(body)
        table += tag + start.to_bytes(4, "big") + len(data).to_bytes(4, "big")
        body += data + bytes(-len(data) % 4)
    head = bytes([0, 0, 0, 0, 2, 0x20, 0, 0]) + b"mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    head += fixed(white.tolist())
    content = head.ljust(128 - 4, b"\0") + table + body
    return (len(content) + 4).to_bytes(4, "big") + content


ADOBE = ((0.6484, 0.3309), (0.2302, 0.7016), (0.1559, 0.0660))
"""The chromaticities of Adobe RGB's primaries, adapted to D50."""


def as_srgb(colour: tuple[int, int, int], exponent: float) -> list[float]:
    """The sRGB values 0 to 255 of a colour of Adobe's primaries, by the definitions of both spaces."""
    white = np.array([0.9642, 1.0, 0.8249])
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in ADOBE]).T
    xyz = columns * np.linalg.solve(columns, white) @ (np.array(colour) / 255) ** exponent
    from_xyz = [[3.1341, -1.6174, -0.4907], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]]  # of D50
    linear = np.clip(np.array(from_xyz) @ xyz, 0, 1)
    return (255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)).tolist()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_colours_of_another_profile_become_srgb(kind: str) -> None:
    colour = (90, 140, 100)
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(halves(colour, colour), kind, icc_profile=profile(ADOBE, 2.2), **options)
    image = load_image(data, "photo")
    assert image.notes == ("has the colour profile of the tests; it is converted to sRGB",)
    expected = as_srgb(colour, 2.2)
    assert np.abs(np.subtract(expected, colour)).max() > 12  # what was lost before
    assert np.abs(np.subtract(image.pixels.getpixel((5, 10)), expected)).max() <= 3
    clear = halves((*colour, 0), (*colour, 255), "RGBA")
    clear_image = load_image(encoded(clear, icc_profile=profile(ADOBE, 2.2)), "photo").pixels
    assert clear_image.getpixel((5, 10)) == WHITE
    assert clear_image.getpixel((35, 10)) == image.pixels.getpixel((35, 10)) or kind == "JPEG"


def test_an_srgb_profile_changes_nothing_and_a_damaged_one_is_told() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = load_image(encoded(halves(RED, BLUE)), "photo")
    tagged = load_image(encoded(halves(RED, BLUE), icc_profile=srgb), "photo")
    assert (tagged.pixels.tobytes(), tagged.notes) == (plain.pixels.tobytes(), ())
    damaged = load_image(encoded(halves(RED, BLUE), icc_profile=b"not a profile"), "photo")
    assert damaged.pixels.tobytes() == plain.pixels.tobytes()
    assert "cannot be used" in damaged.notes[0]


def test_what_squaring_cuts_off_and_enlarges_is_told() -> None:
    def notes(width: int, height: int) -> str:
        image = load_image(encoded(Image.new("RGB", (width, height))), "photo")
        return " ".join(notes_on_squaring(image, (128, 128)))

    assert notes(160, 90) == notes(64, 64) == notes(4000, 3000) == ""
    assert notes(5000, 20) == (
        "is 5000 x 20; only its middle, 20 x 20, is used "
        "is 5000 x 20; it is enlarged 6.4 times, so a larger picture would serve better"
    )
    assert "enlarged 8 times" in notes(16, 16)


def test_a_single_picture_one_of_one_colour_and_a_copy_are_told() -> None:
    photo, mirrored = encoded(halves(RED, BLUE)), encoded(halves(BLUE, RED))
    flat = encoded(Image.new("RGB", (40, 20), RED))
    assert notes_on_all([load_image(photo, "a"), load_image(mirrored, "b")]) == []
    (alone,) = notes_on_all([load_image(photo, "a")])
    assert "one picture only" in alone
    again = encoded(halves(RED, BLUE), kind="BMP")
    copied, plain = notes_on_all([load_image(photo, "a"), load_image(again, "b"), load_image(flat, "c")])
    assert copied == "b is the same picture as a, which counts twice so"
    assert plain == "c has one colour all over, so there is nothing in it to learn"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("pictures.ZIP", "unpack it"),
        ("cat.mp4", "some of its frames"),
        ("notes.txt", "save it as PNG or JPEG"),
    ],
)
def test_what_is_no_picture_says_what_to_do_instead(name: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 or anything else")
    with pytest.raises(PerfError, match="not an image of a known kind") as caught:
        load_image(tmp_path / name)
    assert hint in (caught.value.hint or "")


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
