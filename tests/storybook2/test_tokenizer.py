"""The second Storybook's tokenizer: the world's words are tokens, and any text survives it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from random import Random

import pytest
from transformers import CLIPTokenizer

from perfusion_registry.storybook2.captions import caption
from perfusion_registry.storybook2.grammar import sample_page
from perfusion_registry.storybook2.training.vocabulary import TOKENS, train_vocabulary, world_words
from perfusion_registry.storybook2.words import EVERYDAY
from perfusion_registry.storybook2.world.colours import COLOURS
from perfusion_registry.storybook2.world.drawing import makes, wearables


@cache
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(str(files("perfusion_registry.storybook2") / "tokenizer"))


def length(text: str) -> int:
    return len(tokenizer()(text, add_special_tokens=False)["input_ids"])


def test_every_noun_and_colour_is_one_token_a_word() -> None:
    assert 1500 <= len(tokenizer()) <= 2500
    for noun in (*makes(), *wearables(), *COLOURS):
        assert length(noun) == len(noun.replace("-", " ").split()) + noun.count("-"), noun


def test_the_words_of_the_world_and_of_everyday_english_are_short() -> None:
    assert sum(map(length, world_words())) / len(world_words()) < 1.1
    everyday = EVERYDAY.split()
    assert sum(map(length, everyday)) / len(everyday) < 1.35
    assert max(map(length, everyday)) <= 4


def test_captions_fit_the_text_encoder_and_come_back_as_they_were() -> None:
    for index in range(150):
        rng = Random(f"tokens {index}")
        text = caption(sample_page(rng), rng).text
        ids = tokenizer()(text)["input_ids"]
        assert len(ids) <= TOKENS, text
        again = tokenizer().decode(ids, skip_special_tokens=True)
        assert "".join(again.split()) == "".join(text.lower().split())


@pytest.mark.parametrize(
    "text", ["naïve café — «ça»", "日本語のねこ", "🐻 a teddy!", "x" * 30, "tab\there  two"]
)
def test_any_text_survives(text: str) -> None:
    ids = tokenizer()(text, add_special_tokens=False)["input_ids"]
    assert tokenizer().unk_token_id not in ids
    assert "".join(tokenizer().decode(ids).split()) == "".join(text.lower().split())


def test_offsets_of_tokens_lie_on_the_words_that_captions_mention() -> None:
    for index in range(40):
        rng = Random(f"offsets {index}")
        told = caption(sample_page(rng), rng)
        offsets = tokenizer()(told.text, return_offsets_mapping=True)["offset_mapping"]
        for mention in told.mentions:
            inside = [(a, b) for a, b in offsets if b > a and a < mention.end and b > mention.start]
            assert inside
            assert inside[0][0] == mention.start
            assert inside[-1][1] == mention.end


def test_a_vocabulary_can_be_trained_into_a_folder_that_transformers_reads(tmp_path) -> None:
    made = train_vocabulary(tmp_path, size=1200, captions=60)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    assert again("a teddy on the beach")["input_ids"] == made("a teddy on the beach")["input_ids"]
    assert again.model_max_length == TOKENS
