"""Prompts in the layout of the text encoder, with concepts at known places and nothing lost in silence."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from perfusion_registry.base import Base, ConceptPiece
from perfusion_registry.errors import PerfError


def test_it_is_the_pipelines_own_tokenisation(tiny_base: Base) -> None:
    for text in ("", "A Teddy, sailing in a teapot!", "zxq 日本 42", "a photo of a teddy's hat", "cat " * 90):
        expected = tiny_base.pipe.tokenizer(text, padding="max_length", truncation=True, return_tensors="pt")
        assert list(tiny_base.tokenise([text], whole=False).ids[0]) == expected.input_ids[0].tolist()


def test_pieces_join_to_the_prompt_with_its_supercategories(tiny_base: Base) -> None:
    pieces = ["A ", ConceptPiece("Teddy"), " sailing in a ", ConceptPiece("teapot"), "'s boat"]
    prompt = tiny_base.tokenise(pieces)
    whole = tiny_base.tokenise(["A Teddy sailing in a teapot's boat"])
    assert prompt.ids == whole.ids
    assert prompt.concept_positions == (2, 6)
    assert [prompt.words[at] for at in prompt.concept_positions] == ["Teddy", "teapot"]
    assert prompt.dropped == ""


def test_words_name_the_source_of_every_token(tiny_base: Base) -> None:
    prompt = tiny_base.tokenise(["a blue-ish zq", ConceptPiece("cat"), " cat"])
    used = [word for word in prompt.words if word]
    assert len(prompt.words) == len(prompt.ids[0]) == 77
    assert prompt.words[0] == ""
    assert used[:2] == ["a", "blue-ish"]
    assert set(used) == {"a", "blue-ish", "zq", "cat"}
    assert used[-2:] == ["cat", "cat"]


def test_padding_is_the_tokenizers_own(tiny_base: Base) -> None:
    """Stable Diffusion 2 pads with "!", which is token 0 there, and not with the end token."""
    tokenizer = copy.deepcopy(tiny_base.pipe.tokenizer)
    tokenizer.pad_token = "!"
    pipe = copy.copy(tiny_base.pipe)
    pipe.tokenizer = tokenizer
    prompt = replace(tiny_base, pipe=pipe).tokenise(["a teddy"])
    end, padding = prompt.ids[0][3], set(prompt.ids[0][4:])
    assert end == tokenizer.eos_token_id
    assert padding == {tokenizer.convert_tokens_to_ids("!")}


def test_a_long_prompt_that_is_cut_says_which_words_are_lost(tiny_base: Base) -> None:
    pieces = [ConceptPiece("teddy"), " on" * 70, " in zqxjvwk snow"]
    prompt = tiny_base.tokenise(pieces, whole=False)
    assert prompt.concept_positions == (1,)
    assert prompt.dropped == "zqxjvwk snow"  # the first of them is cut in two, which is as good as lost


def test_a_long_prompt_that_is_cut_may_not_lose_a_concept(tiny_base: Base) -> None:
    with pytest.raises(PerfError, match="too long") as caught:
        tiny_base.tokenise(["a " * 75, ConceptPiece("teddy")], whole=False)
    assert "teddy" in str(caught.value)
    last = tiny_base.tokenise(["a " * 74, ConceptPiece("teddy")], whole=False)
    assert last.concept_positions == (75,)


def test_a_supercategory_of_several_tokens_is_told_with_better_words(tiny_base: Base) -> None:
    assert tiny_base.several_tokens("teapot") is None
    told = tiny_base.several_tokens("glass teapot") or ""
    assert "reads the supercategory 'glass teapot' as glass + teapot" in told
    assert "single words that it knows are teapot" in told
    for word in ("chair-teapot", "glass chair-teapot"):
        assert "it is a kind of the last" in (tiny_base.several_tokens(word) or "")
    for word in ("chairs", "glass chairs"):
        with pytest.raises(PerfError, match="would be a kind of 's'") as caught:
            tiny_base.several_tokens(word)
        assert "such as chair" in (caught.value.hint or "")


def test_words_that_a_small_vocabulary_never_saw_are_known(tiny_base: Base) -> None:
    texts = ["a red Teapot, in the desert", "desert chairs at 5"]
    assert tiny_base.unknown_words(texts) == ["desert", "chairs"]


def test_a_concept_is_one_token_until_its_supercategory_is_spelled(tiny_base: Base) -> None:
    words = [ConceptPiece("glass teapot"), " on a ", ConceptPiece("cat")]
    one = tiny_base.tokenise(["A ", *words])
    assert one.ids == tiny_base.tokenise(["A teapot on a cat"]).ids
    assert (one.concept_positions, one.concept_tokens) == ((2, 5), ((2,), (5,)))
    all_of_it = tiny_base.tokenise(["A ", ConceptPiece("glass teapot", spelled=True), *words[1:]])
    assert all_of_it.ids == tiny_base.tokenise(["A glass teapot on a cat"]).ids
    assert (all_of_it.concept_positions, all_of_it.concept_tokens) == ((3, 6), ((2, 3), (6,)))
    with pytest.raises(PerfError, match="too long"):
        tiny_base.tokenise(["a " * 74, ConceptPiece("glass teapot", spelled=True)], whole=False)
    with pytest.raises(PerfError, match="nothing"):
        tiny_base.tokenise([ConceptPiece(" ")])
