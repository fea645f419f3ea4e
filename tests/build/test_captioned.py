"""Captions beside pictures: read, put into prompts, and which picture is learned under which."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from perfusion_registry.base import Base
from perfusion_registry.build.captioned import caption_prompts
from perfusion_registry.build.latents import encode_latents
from perfusion_registry.build.training import TrainInputs
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.dreambooth_lora.options import TrainOptions
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.methods.table import find_method
from perfusion_registry.recipe.captions import Caption, caption_of, not_read
from perfusion_registry.recipe.pictures import find_pictures


@pytest.mark.parametrize(
    ("text", "template", "said"),
    [
        ("a photo of a sks teddy on a table", "a photo of a {} on a table", True),
        ("A photo of a SKS Teddy, night", "A photo of a {}, night", True),
        ("oak* in the snow", "{} in the snow", True),
        ("a {} in the snow", "a {} in the snow", True),
        ("a brown teddy, two teddys", "a brown {}, two teddys", False),
        ("a red thing", "{}, a red thing", False),
        ("{} and {}", "{},   and  ", False),
    ],
)
def test_where_a_caption_says_the_concept(text: str, template: str, said: bool) -> None:
    found = caption_prompts([Caption(text, file="1.txt")], "oak", "teddy", "sks teddy")
    assert found.templates == (template,)
    assert any("do not say `sks teddy` (`1.txt` is one)" in note for note in found.notes) != said


@pytest.mark.parametrize(
    ("words", "template", "said"),
    [
        ("sks teddy", "{}", True),
        ("ohwx teddy", "{}", False),
        ("teddy", "{}", False),
        ("sks teddy sitting", "{} sitting", True),
        ("my old bear", "{}, my old bear", False),
    ],
)
def test_where_a_folder_says_it(words: str, template: str, said: bool) -> None:
    found = caption_prompts([Caption(None, words, 10, f"10_{words}")], "oak", "teddy", "sks teddy")
    assert (found.templates, found.repeats) == ((template,), (10,))
    assert len(found.notes) == (1 if said else 2)


def test_captions_and_kohyas_folders_are_found(tmp_path: Path) -> None:
    for name in ("1.png", "2.PNG", "10_ohwx cat/3.png", "10_ohwx cat/4.png", "2024_holiday/5.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "1.txt").write_bytes(b"\xef\xbb\xbf\n  a cat   on a mat \nmore\n")
    (tmp_path / "2.caption").write_text("a cat")
    (tmp_path / "10_ohwx cat" / "4.txt").write_text("sitting")
    pictures = [path for path, _ in find_pictures(tmp_path.parent, [tmp_path.name], (), where="here")]
    assert [path.name for path in pictures] == ["1.png", "2.PNG", "3.png", "4.png"]
    starred = find_pictures(tmp_path / "10_ohwx cat", ["*"], (), where="here")
    assert [path.name for path, _ in starred] == ["3.png", "4.png"]  # a caption is no picture
    assert [caption_of(path) for path in pictures] == [
        Caption("a cat on a mat"),
        Caption("a cat"),
        Caption(None, "ohwx cat", 10),
        Caption("sitting", "ohwx cat", 10),
    ]
    assert not_read([tmp_path / "2024_holiday" / "5.png"]) is None
    assert (not_read(pictures) or "").startswith(
        "not read: 3 caption files beside the pictures and the folder's name `10_ohwx cat`; "
    )
    (tmp_path / "1.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(PerfError, match="not in UTF-8"):
        caption_of(pictures[0])


def test_each_picture_goes_with_its_caption_as_often_as_it_is_repeated(tiny_base: Base) -> None:
    options = TrainOptions(batch=1000, templates=("a photo of a {}", "a good photo of a {}"))
    method = find_method("dreambooth-lora")
    call = method.call(options, "teddy")
    captions = [Caption("sks teddy at sea"), Caption(None, "sks teddy", 3), Caption()]
    said = caption_prompts(captions, "oak", "teddy", "sks teddy")
    prompts = Prompts.of(tiny_base, [*options.templates, *said.templates], "teddy", call=call)
    pixels = torch.rand(6, 3, 64, 64)  # three at two sizes; mirrored behind
    latents = encode_latents(tiny_base, pixels, torch.ones(6, 1, 64, 64), flip=True)
    rows = tuple(None if row is None else 2 + row for row in said.rows)
    inputs = TrainInputs(
        tiny_base, "teddy", None, prompts, latents, options, method.trainable,
        call=call, captions=rows, repeats=said.repeats,
    )  # fmt: skip
    pictures, templates = inputs.drawn(torch.Generator().manual_seed(0))
    pairs = Counter(zip((pictures % 3).tolist(), templates.tolist(), strict=True))
    assert set(pairs) == {(0, 2), (1, 3), (2, 0), (2, 1)}
    assert set(pictures.tolist()) == set(range(12))
    assert pairs[1, 3] / 1000 == pytest.approx(3 / 5, abs=0.06)
    assert inputs.identity(inputs.begin().concept) != TrainInputs(
        tiny_base, "teddy", None, prompts, latents, options, method.trainable, call=call
    ).identity(inputs.begin().concept)
