"""Pictures of every format carry perf's record, and what other programs read."""

from __future__ import annotations

import random
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from perfusion_registry.errors import PerfError
from perfusion_registry.render import exif
from perfusion_registry.render.formats import FORMATS, encoded
from perfusion_registry.render.metadata import (
    CHUNK,
    RenderRecord,
    check_record,
    picture_bytes,
    read_metadata,
    read_sheet_digest,
    sheet_bytes,
    sheet_digest,
)
from perfusion_registry.render.parameters import parameters
from tests.render.samples import picture, render_record

PROMPT = "A teddy* à la Größe \\* 熊 🧸"


def written(tmp_path: Path, kind: str, record: RenderRecord) -> Path:
    path = tmp_path / f"a{FORMATS[kind][0]}"
    path.write_bytes(picture_bytes(picture(), record, kind))
    return path


@pytest.mark.parametrize("kind", FORMATS)
def test_a_record_survives_every_format(kind: str, tmp_path: Path) -> None:
    record = render_record(prompt=PROMPT)
    assert read_metadata(written(tmp_path, kind, record)) == record
    assert picture_bytes(picture(), record, kind) == picture_bytes(picture(), record, kind)
    sheet = tmp_path / f"sheet{FORMATS[kind][0]}"
    sheet.write_bytes(sheet_bytes(picture(), [record], kind))
    assert read_sheet_digest(sheet) == sheet_digest([record])
    with pytest.raises(PerfError, match="no record"):
        read_metadata(sheet)
    assert read_sheet_digest(written(tmp_path, kind, record)) is None


@pytest.mark.parametrize("kind", FORMATS)
def test_galleries_find_parameters_as_a1111_writes_them(kind: str, tmp_path: Path) -> None:
    """Read as A1111's own `read_info_from_image` does: a text of PNG, else UserComment in UTF-16."""
    with Image.open(written(tmp_path, kind, render_record(prompt=PROMPT))) as image:
        if kind == "png":
            text = image.info["parameters"]
        else:
            comment = image.getexif().get_ifd(0x8769)[0x9286]
            assert comment[:8] == b"UNICODE\0"
            text = comment[8:].decode("utf-16-be")
            assert image.getexif()[0x0131] == "perf 0.1.0"
        assert text == (
            "A teddy* à la Größe * 熊 🧸\n"
            "Steps: 50, Sampler: DDIM, CFG scale: 6, Seed: 3, Size: 64x64, Model: storybook, "
            "Version: perf 0.1.0"
        )


def test_a_negative_prompt_has_a_line_and_odd_names_are_quoted() -> None:
    record = render_record()
    request = record.request.model_copy(
        update={"negative_prompt": "fog", "scheduler": "HeunDiscreteScheduler"}
    )
    base = record.composition.base.model_copy(update={"repo": "C:/bases/a, b"})
    composition = record.composition.model_copy(update={"base": base})
    lines = parameters(composition, request, 3, "1").split("\n")
    assert lines[1] == "Negative prompt: fog"
    assert "Sampler: HeunDiscreteScheduler, " in lines[2]
    assert 'Model: "C:/bases/a, b", ' in lines[2]


def test_webp_of_quality_100_loses_nothing_and_less_is_smaller() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    sizes = {}
    for kind in ("jpeg", "webp"):
        for quality in (20, None, 100):
            sizes[kind, quality] = len(encoded(noise, kind, CHUNK, "", quality=quality))
        assert sizes[kind, 20] < sizes[kind, None] < sizes[kind, 100]


def test_a_lossless_picture_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.webp").write_bytes(picture_bytes(picture(), render_record(), "webp", 100))
    with Image.open(tmp_path / "a.webp") as image:
        assert image.convert("RGB").tobytes() == picture().tobytes()


def test_a_record_too_long_for_a_jpeg_is_told_and_other_formats_hold_it(tmp_path: Path) -> None:
    def of_words(letters: str) -> RenderRecord:
        words = "".join(random.Random(0).choice(letters) for _ in range(9_900))
        request = render_record().request.model_copy(update={"negative_prompt": words})
        return render_record(prompt=f"A teddy* {words[::-1]}").model_copy(update={"request": request})

    check_record(of_words("abcdefghijklmnop "), "jpeg")  # as long as prompts may be, and it still fits
    longer = of_words("".join(map(chr, range(0x4E00, 0x9000))))
    with pytest.raises(PerfError, match="a JPEG file holds 65,527") as caught:
        check_record(longer, "jpeg")
    assert caught.value.hint == "write it as PNG or WebP"
    for kind in ("png", "webp"):
        check_record(longer, kind)
        assert read_metadata(written(tmp_path, kind, longer)) == longer


def test_a_sheet_larger_than_its_format_is_told() -> None:
    with pytest.raises(PerfError, match="too large for WebP"):
        encoded(Image.new("RGB", (16_384, 1)), "webp", CHUNK, "")


def packed(key: str, record: bytes) -> bytes:
    return key.encode() + b"\0" + zlib.compress(record)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "perf",
        b"",
        b"perf\0",
        b"perf\0not zlib",
        packed("perf", b"[" * 50_000_000),
        packed("perf", b"\xff\xfe"),
        packed("perf", b"{}")[:-3],
        packed("perf-sheet", b"{}"),
    ],
)
def test_what_is_no_record_is_none(value: object) -> None:
    assert exif.own_record(value, "perf", 1024 * 1024) is None
    assert exif.own_record(packed("perf", b"{}"), "perf", 1024 * 1024) == "{}"


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
@given(data=st.data())
def test_damaged_pictures_never_make_a_traceback(tmp_path_factory, kind: str, data: st.DataObject) -> None:
    whole = picture_bytes(picture(), render_record(), kind)
    exif_at = whole.index(b"MM\0*")
    at = data.draw(st.integers(0, len(whole) - 1) | st.integers(exif_at, exif_at + 120))
    damaged = bytearray(whole)
    if data.draw(st.booleans()):
        damaged[at : at + 4] = struct.pack(">L", data.draw(st.integers(0, 2**32 - 1)))
    else:
        del damaged[at:]
    path = tmp_path_factory.getbasetemp() / f"damaged{FORMATS[kind][0]}"
    path.write_bytes(bytes(damaged))
    with suppress(PerfError):
        assert isinstance(read_metadata(path), RenderRecord)
