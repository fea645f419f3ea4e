"""A supercategory that a base does not know is told with words that it does.

Most of it on the embedded base, of whichever edition: words come from its world, or are in that of every one.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from perfusion_registry.base import describe_base, load_base
from perfusion_registry.base.bounds import BOUNDS_FILE
from perfusion_registry.base.tokens import unknown_words
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.supercategory import check_drawn, check_supercategory
from perfusion_registry.reporter import Silent
from perfusion_registry.storybook.judging import WORLD
from perfusion_registry.suggestions import listed


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("teddy-qwertz", "such as `teddy`"),
        ("teapott", "such as `teapot`"),
        # `t` is in the vocabulary, and nothing that is drawn
        ("t-qwertz", f"this base draws {', '.join(WORLD.things[:8])}"),
        ("axolotl", "`perf suggest-super IMAGES` asks your pictures"),
    ],
)
def test_a_base_of_few_words_names_what_it_draws(word: str, told: str) -> None:
    with pytest.raises(PerfError, match="this base") as caught:
        check_supercategory(describe_base("storybook"), word)
    assert told in (caught.value.hint or "")


def test_of_all_words_of_the_vocabulary_only_things_are_kinds_of_things() -> None:
    """Most of its words were never in a caption, and most others are no thing. Every seventh is asked."""
    base = describe_base("storybook")
    content = json.loads((base.folder / "tokenizer" / "tokenizer.json").read_bytes())
    vocabulary = [
        token[:-4] for token in content["model"]["vocab"] if token.endswith("</w>") and len(token) > 5
    ]
    assert {"crown", "ears"} < {*vocabulary} - {*WORLD.things}
    for word in ["crown", "ears", *(word for word in vocabulary[::7] if word not in WORLD.things)]:
        with pytest.raises(PerfError, match="no thing that this base draws"):
            check_supercategory(base, word)
    for word in (*WORLD.things, "Teddy", "green teddy", "purple TABLE"):
        check_supercategory(base, word)
    never_said = next(word for word in vocabulary if word not in WORLD.words)
    for word in (f"{never_said} teddy", "teddy ears", ""):
        with pytest.raises(PerfError, match="no thing that this base draws"):
            check_drawn(base, word, "a recipe")


def test_a_thing_of_two_words_is_one_though_its_last_is_none(tmp_path: Path, tiny_base_folder: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(tiny_base_folder, own)
    bounds = 'things = ["cat", "lion cub", "high-heeled shoe"]\nwords = ["a", "red", "pot"]\n'
    (own / BOUNDS_FILE).write_text(bounds, encoding="utf-8")
    base = describe_base(str(own))
    for word in ("lion cub", "red Lion Cub", "lion-cub", "high-heeled shoe", "red cat"):
        check_drawn(base, word, "a recipe")
    for word in ("cub", "red shoe", "lion", "cat pot", "green cat"):
        with pytest.raises(PerfError, match="no thing that this base draws"):
            check_drawn(base, word, "a recipe")


def test_words_without_a_caption_are_told_though_the_vocabulary_has_them() -> None:
    tokenizer = ["a", "vocabulary", "of", "few"]
    texts = ["The teddy is in its Crooked palace with an axolotl's crown"]
    assert unknown_words(tokenizer, texts, WORLD.words) == ["crooked", "palace", "axolotl"]


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        # Of the concept's name without its star, both are said.
        ("a axolotl", ["has never seen axolotl: it draws nothing of it", "it draws {things}", "a axolotl*"]),
        ("a axolotl and a qwertz", ["has never seen axolotl, qwertz: "]),
        ("a teapott", ["has never seen teapott: ", "spelt alike, it knows teapot"]),
        ("a teapot", []),
    ],
)
def test_of_words_that_it_has_never_seen_a_base_names_the_nearest(prompt: str, told: list[str]) -> None:
    heard: list[str] = []

    class Heard(Silent):
        def warn(self, text: str) -> None:
            heard.append(text)

    compose(
        parse_prompt(prompt), {}, load_base(describe_base("storybook")), known=["axolotl"], reporter=Heard()
    )
    said = " | ".join(heard)
    assert [part for part in told if part.format(things=listed(WORLD.things)) not in said] == []
    assert bool(told) == bool(heard)


def test_capitals_do_not_hide_a_thing_from_its_worlds_judge() -> None:
    judge = WORLD.judge("storybook")
    assert judge.knows("Teddy")
    assert not judge.knows("Axolotl")


def test_of_several_words_the_unknown_ones_are_named() -> None:
    with pytest.raises(PerfError, match=r"the supercategory `teddy qwertz` has `qwertz` in it, a word that"):
        check_supercategory(describe_base("storybook"), "teddy qwertz")
