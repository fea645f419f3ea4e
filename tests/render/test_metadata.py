import struct
import subprocess
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from perfusion_registry.errors import PerfError
from perfusion_registry.render.metadata import CHUNK, RenderRecord, png_bytes, read_metadata
from tests.render.samples import picture, render_record


def test_a_record_survives_the_picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png_bytes(picture(), render_record(prompt="A teddy* à la Größe \\* 熊")))
    assert read_metadata(path) == render_record(prompt="A teddy* à la Größe \\* 熊")
    with Image.open(path) as image:
        assert image.info["Description"] == "A teddy* à la Größe \\* 熊"
        assert image.convert("RGB").tobytes() == picture().tobytes()


def test_the_same_picture_is_the_same_bytes():
    assert png_bytes(picture(), render_record()) == png_bytes(picture(), render_record())


def test_what_makes_two_records_the_same_picture():
    first = render_record()
    assert first.same_picture(first.model_copy(update={"perf": "9", "libraries": {"torch": "9"}}))
    other_seed = first.model_copy(update={"request": first.request.model_copy(update={"seeds": (4,)})})
    assert not first.same_picture(other_seed)
    assert not first.same_picture(first.model_copy(update={"dtype": "bfloat16"}))


def png_with(chunks):
    """A 1 x 1 PNG with `chunks` (name, bytes) before its pixels, its checksums right."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunk(*c) for c in chunks) + pixels


def itxt(text: bytes, *, compressed: bool = False):
    body = zlib.compress(text) if compressed else text
    return b"iTXt", CHUNK.encode() + b"\0" + bytes([compressed, 0]) + b"\0\0" + body


GOOD = render_record().to_json()
HOSTILE = {
    "missing": None,
    "empty file": b"",
    "text": b"not a picture",
    "truncated": png_bytes(picture(), render_record())[:60],
    "no record": png_with([]),
    "not JSON": png_with([itxt(b"hello")]),
    "JSON null": png_with([itxt(b"null")]),
    "not UTF-8": png_with([itxt(b"\xff\xfe{")]),
    "deep": png_with([itxt(b"[" * 100_000)]),
    "bomb": png_with([itxt(b"[" * 50_000_000, compressed=True)]),
    "huge": (b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR")
    + struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 0, 0, 0, 0)
    + b"\0" * 8,
    "future": png_with([itxt(GOOD.replace('"schema_version":1', '"schema_version":9').encode())]),
    "extra key": png_with([itxt(GOOD.replace("{", '{"evil":1,', 1).encode())]),
    "path for a digest": png_with(
        [itxt(GOOD.replace('"sha256":"' + "a" * 64, '"sha256":"../../x').encode())]
    ),
    "infinite": png_with([itxt(GOOD.replace('"guidance":6.0', '"guidance":1e999').encode())]),
    "index": png_with([itxt(GOOD.replace('"index":0', '"index":7').encode())]),
    "another prompt": png_with([itxt(GOOD.replace("A teddy* sailing", "A cat* sailing").encode())]),
    "bad prompt": png_with([itxt(GOOD.replace("A teddy* sailing", "A teddy*{").encode())]),
    "a JPEG's name": b"\xff\xd8\xff\xe0" + b"\0" * 100,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_picture_that_cannot_be_repeated_is_refused_politely(case, tmp_path):
    path = tmp_path / "a.png"
    if HOSTILE[case] is not None:
        path.write_bytes(HOSTILE[case])
    with pytest.raises(PerfError) as caught:
        read_metadata(path)
    assert str(path) in caught.value.where


def test_the_hostile_cases_differ_from_the_good_one(tmp_path):
    """The good record reads, so the cases above fail for the reason that names them."""
    path = tmp_path / "a.png"
    path.write_bytes(png_with([itxt(GOOD.encode())]))
    assert read_metadata(path) == render_record()


def test_a_folder_is_no_picture(tmp_path):
    with pytest.raises(PerfError):
        read_metadata(tmp_path)


@given(st.data())
def test_damaged_pictures_never_make_a_traceback(tmp_path, data):
    whole = png_bytes(picture(), render_record())
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    if data.draw(st.booleans()):
        damaged[at] ^= data.draw(st.integers(1, 255))
    else:
        del damaged[at:]
    path = tmp_path / "damaged.png"
    path.write_bytes(bytes(damaged))
    try:
        read = read_metadata(path)
    except PerfError:
        return
    assert isinstance(read, RenderRecord)


def test_a_text_chunk_of_another_program_is_no_record(tmp_path):
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("parameters", "a teddy, steps: 50")
    picture().save(tmp_path / "a.png", pnginfo=chunks)
    with pytest.raises(PerfError, match="no record"):
        read_metadata(tmp_path / "a.png")


def test_prompts_and_records_are_read_without_torch():
    """In a process of its own: this one has torch already."""
    code = (
        "import sys\n"
        "from perfusion_registry.compose import parse_prompt, read_composition, find_concepts\n"
        "from perfusion_registry.render import read_metadata, contact_sheet, resolve_request\n"
        "parse_prompt('a teddy*')\n"
        "sys.exit(' '.join({'torch', 'diffusers', 'transformers'} & set(sys.modules)) or 0)\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
