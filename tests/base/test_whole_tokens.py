"""Prompts of tokenizers that read a whole text: tokens are the tokenizer's own, and concepts are found."""

from __future__ import annotations

from typing import Any

import pytest

from perfusion_registry.base.tokens import ConceptPiece
from perfusion_registry.base.whole_tokens import several_pieces, whole_tokens
from perfusion_registry.errors import PerfError
from tests.pixart import t5_tokenizer

TOKENIZER = t5_tokenizer()


def own(text: str, length: int = 20) -> list[int]:
    """What the pipelines get."""
    ids: list[int] = TOKENIZER(text, padding="max_length", truncation=True, max_length=length).input_ids
    return ids


def names(tokens: Any) -> list[str]:
    shown: list[str] = TOKENIZER.convert_ids_to_tokens(tokens.ids[0][: tokens.length])
    return shown


@pytest.mark.parametrize(
    "text", ["", "a photo of a teddy", "  a (teddy's)  hat,\nin the pots ", "zxq!", "a teddy " * 30]
)
def test_a_text_is_the_tokenizers_own(text: str) -> None:
    tokens = whole_tokens(TOKENIZER, [text] if text else [], 20)
    assert list(tokens.ids[0]) == own(text)
    assert len(tokens) == len(tokens.words) == 20


@pytest.mark.parametrize(
    ("pieces", "read", "at"),
    [
        (["a ", "teddy", " in the snow"], ["▁a", "▁teddy", "▁in", "▁the", "▁snow", "</s>"], 1),
        (["teddy", "'s hat"], ["▁teddy", "'", "s", "▁hat", "</s>"], 0),
        # In brackets T5 has no token of the word: of its letters the last is the concept's.
        (["a (", "teddy", ")"], ["▁a", "▁", "(", "y", ")", "</s>"], 3),
        # `pots` is one token, which would be the concept's and more: it is read as two words.
        (["a ", "pot", "s on a table"], ["▁a", "▁pot", "▁", "s", "▁on", "▁a", "▁table", "</s>"], 1),
        (["a ", "zxq"], ["▁a", "q", "</s>"], 1),
    ],
)
def test_a_concept_is_the_last_token_of_its_word(pieces: list[str], read: list[str], at: int) -> None:
    words = ("teddy", "pot", "zxq")
    parts = [ConceptPiece(part) if part in words else part for part in pieces]
    tokens = whole_tokens(TOKENIZER, parts, 20)
    assert names(tokens) == read
    assert (tokens.concept_positions, tokens.places) == ((at,), (((at,),),))
    (word,) = (part for part in pieces if part in words)
    assert tokens.words[at] == word
    spelled = [ConceptPiece(part, spelled=True) if part in words else part for part in pieces]
    whole = whole_tokens(TOKENIZER, spelled, 20)
    assert [whole.ids[0][place] for place in whole.concept_tokens[0]][-1] == tokens.ids[0][at]
    assert whole.length - len(whole.concept_tokens[0]) == tokens.length - 1


def test_spelled_it_is_the_text_itself() -> None:
    text = "a zxq's hat in the snow"
    tokens = whole_tokens(TOKENIZER, ["a ", ConceptPiece("zxq", spelled=True), "'s hat in the snow"], 20)
    assert list(tokens.ids[0]) == own(text)
    assert tokens.concept_tokens == ((1, 2, 3, 4),)
    assert tokens.words[:8] == ("a", *["zxq"] * 4, "'s", "'s", "hat")


def test_several_concepts_and_several_vectors() -> None:
    pieces = ["a ", ConceptPiece("teddy", vectors=3), " in a ", ConceptPiece("teapot")]
    tokens = whole_tokens(TOKENIZER, pieces, 20)
    assert names(tokens) == ["▁a", *["▁teddy"] * 3, "▁in", "▁a", "▁teapot", "</s>"]
    assert (tokens.concept_positions, tokens.concept_tokens) == ((3, 6), ((1, 2, 3), (6,)))


def test_what_is_lost_is_told() -> None:
    tokens = whole_tokens(TOKENIZER, ["a ", ConceptPiece("teddy"), " in the snow at sea"], 6)
    assert (tokens.length, tokens.dropped) == (6, "at sea")
    with pytest.raises(PerfError, match="a concept would be lost"):
        whole_tokens(TOKENIZER, ["a photo of a blue ", ConceptPiece("teddy")], 6)
    with pytest.raises(PerfError, match="nothing that the tokenizer can read"):
        whole_tokens(TOKENIZER, ["a ", ConceptPiece(" ")], 6)


def test_a_word_in_pieces_is_told_and_taken() -> None:
    assert several_pieces(TOKENIZER, "teddy") is None
    told = several_pieces(TOKENIZER, "zxq")
    assert told is not None
    assert "reads the supercategory 'zxq' as _ + z + x + q" in told
