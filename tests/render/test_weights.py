"""Pictures of prompts with weights: diffusers' own with encodings multiplied by hand, and their records."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from PIL import Image

from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.operations.job import RenderOverrides
from perfusion_registry.render import png_bytes
from perfusion_registry.render.draw import render
from perfusion_registry.render.metadata import read_metadata
from perfusion_registry.render.request import resolve_request
from tests.compose.samples import on
from tests.render.test_draw import pixels, stock


def request(base, negative="blue hat"):
    overrides = RenderOverrides(seeds=(5,), steps=2, guidance=3.0, negative_prompt=negative)
    return resolve_request(overrides.values_on(base), {}, native={"width": 64, "height": 64})


def drawn(base, prompt, concepts, negative="blue hat"):
    composition = compose(parse_prompt(prompt), concepts, base)
    ((picture,)) = render(base, composition, request(base, negative), on(concepts))
    return picture


def encoded(base, text, weights):
    """The states of a text (1, 77, d), some of them multiplied."""
    ids = base.pipe.tokenizer(text, padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.no_grad():
        states = base.pipe.text_encoder(ids)[0]
    for position, weight in weights.items():
        states[:, position] *= weight
    return states


@pytest.mark.parametrize(
    ("prompt", "negative"),
    [("a (red:1.4) hat in the [snow]", "blue hat"), ("a red hat in the snow", "(blue:1.3) hat")],
)
def test_words_alone_are_drawn_as_by_the_pipeline_with_weighted_encodings(
    tiny_base, concepts, prompt, negative
):
    picture = drawn(tiny_base, prompt, concepts, negative)
    on_words = {2: 1.4, 6: 1 / 1.1} if "(" in prompt else {}
    on_negative = {1: 1.3} if "(" in negative else {}
    embeds = {
        "prompt_embeds": encoded(tiny_base, "a red hat in the snow", on_words),
        "negative_prompt_embeds": encoded(tiny_base, "blue hat", on_negative),
    }
    difference = np.abs(pixels(picture).astype(int) - stock(tiny_base.pipe, **embeds).astype(int))
    assert difference.max() <= 1
    plain = drawn(tiny_base, "a red hat in the snow", concepts)
    assert not np.array_equal(pixels(picture), pixels(plain))


@pytest.mark.parametrize("even", ["a {} in the snow", "a teddy in the snow"])
def test_a_weight_of_one_changes_nothing(tiny_base, concepts, even):
    prompt = even.replace("{}", "teddy*")
    words = "(teddy*:1)" if "{}" in even else "(teddy: 1.0)"
    told = prompt.replace("teddy*" if "{}" in even else "teddy", words).replace("snow", "((snow:.5):2)")
    plain, picture = (drawn(tiny_base, text, concepts) for text in (prompt, told))
    assert np.array_equal(pixels(plain), pixels(picture))
    assert picture.record.composition.prompt == told


def test_the_record_and_what_others_read_have_the_prompt_as_it_is_typed(tiny_base, concepts, tmp_path):
    prompt, negative = r"a (teddy*:1.2) in ((snow)) \(big 2\*3\)", "(blue:1.3), [hat]"
    picture = drawn(tiny_base, prompt, concepts, negative)
    path = tmp_path / "1.png"
    path.write_bytes(png_bytes(picture.image, picture.record))
    record = read_metadata(path)
    assert record == picture.record
    assert record.composition.prompt == prompt
    assert (record.request.negative_prompt, record.request.negative_format) == (negative, 2)
    told = Image.open(io.BytesIO(path.read_bytes())).text["parameters"].split("\n")
    assert told[:2] == [r"a (teddy*:1.2) in ((snow)) \(big 2*3\)", f"Negative prompt: {negative}"]
    ((again,)) = render(tiny_base, record.composition, record.request, on(concepts))
    assert np.array_equal(pixels(again), pixels(picture))


def test_a_record_of_before_there_were_weights_draws_what_it_did(tiny_base, concepts):
    """Its brackets are characters, in both of its prompts."""
    text = "a (red:1.4) hat"
    old = compose(parse_prompt("a hat"), {}, tiny_base).model_copy(update={"prompt": text})
    assert old.schema_version == 1
    wanted = request(tiny_base).model_copy(update={"negative_prompt": "(blue) hat"})
    assert wanted.negative_format == 1
    ((picture,)) = render(tiny_base, old, wanted, {})
    expected = stock(copy.copy(tiny_base.pipe), prompt=[text], negative_prompt=["(blue) hat"])
    assert np.array_equal(pixels(picture), expected)
    assert "negative_format" not in picture.record.to_json()
    assert request(tiny_base, "blue hat :)").negative_format == 1
    assert request(tiny_base, "(blue) hat").negative_format == 2


LONG = "a red hat in the snow and " * 12 + "a cat"  # 86 tokens
BROKEN = "a red hat BREAK in the snow"


def chunks(base, texts):
    """The states of a text in each chunk, side by side (1, 77 k, d)."""
    return torch.cat([encoded(base, text, {}) for text in texts], 1)


@pytest.mark.parametrize(
    ("prompt", "wanted", "negative", "unwanted"),
    [
        (LONG, [" ".join(LONG.split()[:75]), " ".join(LONG.split()[75:])], "blue hat", ["blue hat", ""]),
        (BROKEN, ["a red hat", "in the snow"], "blue hat", ["blue hat", ""]),
        ("a cat", ["a cat", ""], "blue BREAK hat", ["blue", "hat"]),
    ],
    ids=["long", "BREAK", "negative"],
)
def test_words_alone_are_drawn_as_by_the_pipeline_with_all_chunks(
    tiny_base, concepts, prompt, wanted, negative, unwanted
):
    picture = drawn(tiny_base, prompt, concepts, negative)
    embeds = {
        "prompt_embeds": chunks(tiny_base, wanted),
        "negative_prompt_embeds": chunks(tiny_base, unwanted),
    }
    difference = np.abs(pixels(picture).astype(int) - stock(tiny_base.pipe, **embeds).astype(int))
    assert difference.max() <= 1
    record = picture.record
    assert record.composition.prompt == prompt
    assert record.composition.schema_version == (1 if prompt == "a cat" else 3)
    assert record.request.negative_format == (2 if "BREAK" in negative else 1)


def test_a_concept_in_a_long_prompt_is_drawn_with_its_record(tiny_base, concepts):
    prompt = f"{LONG} BREAK a (hugsy*:1.1) on a teapot*"
    picture = drawn(tiny_base, prompt, concepts, LONG)
    record = picture.record
    assert record.composition.prompt == prompt
    assert (record.request.negative_prompt, record.request.negative_format) == (LONG, 2)
    ((again,)) = render(tiny_base, record.composition, record.request, on(concepts))
    assert np.array_equal(pixels(again), pixels(picture))
    plain = drawn(tiny_base, prompt.replace("*", ""), concepts, LONG)
    assert not np.array_equal(pixels(plain), pixels(picture))


def test_a_long_prompt_of_before_is_cut_as_it_was(tiny_base):
    old = compose(parse_prompt("a hat"), {}, tiny_base).model_copy(update={"prompt": LONG})
    wanted = request(tiny_base).model_copy(update={"negative_prompt": LONG})
    ((picture,)) = render(tiny_base, old, wanted, {})
    expected = stock(copy.copy(tiny_base.pipe), prompt=[LONG], negative_prompt=[LONG])
    assert np.array_equal(pixels(picture), expected)
