"""A supercategory that a base does not know is told with words that it does."""

from __future__ import annotations

import json

import pytest

from perfusion_registry.base import describe_base
from perfusion_registry.base.tokens import unknown_words
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.supercategory import check_drawn, check_supercategory
from perfusion_registry.storybook.judging import WORLD


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("teddy-bear", "such as `teddy`"),
        ("teapott", "such as `teapot`"),
        # `t` is in the vocabulary, and nothing that is drawn
        ("t-shirt", "this base draws teddy, cat, dog, teapot, pot, boat, chair, table"),
        ("axolotl", "`perf suggest-super IMAGES` asks your pictures"),
    ],
)
def test_a_base_of_few_words_names_what_it_draws(word: str, told: str) -> None:
    with pytest.raises(PerfError, match="in pieces") as caught:
        check_supercategory(describe_base("storybook"), word)
    assert told in (caught.value.hint or "")


def test_of_all_words_of_the_vocabulary_only_things_are_kinds_of_things() -> None:
    """Most of its words were never in a caption, and most of the others are no thing."""
    base = describe_base("storybook")
    content = json.loads((base.folder / "tokenizer" / "tokenizer.json").read_bytes())
    vocabulary = [
        token[:-4] for token in content["model"]["vocab"] if token.endswith("</w>") and len(token) > 5
    ]
    assert {"dragon", "bunny", "crown", "ears"} < set(vocabulary)
    for word in {*vocabulary} - {*WORLD.things}:
        with pytest.raises(PerfError, match="no thing that this base draws"):
            check_supercategory(base, word)
    for word in (*WORLD.things, "Teddy", "green teddy", "wooden TABLE"):
        check_supercategory(base, word)
    for word in ("dragon teddy", "teddy ears", ""):
        with pytest.raises(PerfError, match="no thing that this base draws"):
            check_drawn(base, word, "a recipe")


def test_words_without_a_caption_are_told_though_the_vocabulary_has_them() -> None:
    tokenizer = ["a", "vocabulary", "of", "few"]
    texts = ["The teddy is in its Tiny castle with a dragon's crown"]
    assert unknown_words(tokenizer, texts, WORLD.words) == ["tiny", "castle", "dragon"]


def test_capitals_do_not_hide_a_thing_from_its_worlds_judge() -> None:
    judge = WORLD.judge("storybook")
    assert judge.knows("Teddy")
    assert not judge.knows("Dragon")


def test_of_several_words_the_unknown_ones_are_named() -> None:
    with pytest.raises(PerfError, match=r"the supercategory `teddy qwertz` has `qwertz` in it, which"):
        check_supercategory(describe_base("storybook"), "teddy qwertz")
