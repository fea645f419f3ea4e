"""Prompts of any length: in chunks, each with a start and an end token, encoded as diffusers' community
pipelines and A1111 do it, which is written down here once more."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from perfusion_registry.base import Base, ChunkEnd, ConceptPiece, describe_base, load_base
from perfusion_registry.base.clip_tokens import clip_tokens
from perfusion_registry.base.tokens import Tokens
from perfusion_registry.compose import compose, parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.render import render
from perfusion_registry.render.request import RenderRequest
from tests.sdxl import save_shallow_sdxl
from tests.tiny import save_tiny_tokenizer

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
LONG = "a red cat in the snow and " * 16 + "a teapot"  # 114 tokens


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return save_tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = save_shallow_sdxl(tmp_path_factory.mktemp("sdxl") / "xl")
    return load_base(describe_base(str(folder)), device="cpu", dtype="float32", compute_dtype="float32")


def by_hand(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The chunks of texts between which there is a BREAK, with 75 tokens each."""
    chunks = []
    for text in texts:
        tokens = tokenizer(text).input_ids[1:-1]
        for start in range(0, max(len(tokens), 1), 75):
            part = tokens[start : start + 75]
            padding = [tokenizer.pad_token_id] * (75 - len(part))
            chunks.append([tokenizer.bos_token_id, *part, tokenizer.eos_token_id, *padding])
    return chunks


def words(tokens: Tokens) -> list[list[str]]:
    """The words of each chunk, one for each token."""
    size = tokens.chunk
    return [[w for w in tokens.words[at : at + size] if w] for at in range(0, len(tokens), size)]


def test_the_encodings_are_those_of_each_chunk_side_by_side(tiny_base: Base) -> None:
    tokenizer, encoder = tiny_base.pipe.tokenizer, tiny_base.pipe.text_encoder
    for texts in ([LONG], ["a cat", LONG, "snow"], ["", "a cat"]):
        pieces = [piece for text in texts for piece in (text, ChunkEnd())][:-1]
        tokens = tiny_base.tokenise(pieces)
        chunks = by_hand(tokenizer, texts)
        assert list(tokens.ids[0]) == [id_ for chunk in chunks for id_ in chunk]
        assert (tokens.chunk, tokens.chunks, len(tokens)) == (77, len(chunks), 77 * len(chunks))
        with torch.no_grad():
            expected = torch.cat([encoder(torch.tensor([chunk]))[0] for chunk in chunks], 1)
            torch.testing.assert_close(tiny_base.encode([tokens]).states, expected, **CLOSE)


def both_encoders(xl: Base, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The states (1, 77 k, d) of SDXL's encoders for the texts of k chunks, and the first one's pooled
    vector (1, p)."""
    both, outs = [], []
    for name in ("", "_2"):
        encoder, tokenizer = (getattr(xl.pipe, f"{part}{name}") for part in ("text_encoder", "tokenizer"))
        with torch.no_grad():
            outs = [
                encoder(torch.tensor([chunk]), output_hidden_states=True)
                for chunk in by_hand(tokenizer, texts)
            ]
        both.append(torch.cat([out.hidden_states[-2] for out in outs], 1))
    return torch.cat(both, -1), outs[0].text_embeds


def test_sdxl_takes_the_pooled_vector_of_the_first_chunk(xl: Base) -> None:
    """As A1111 and ComfyUI do; a short prompt beside a long one is filled up with blank chunks."""
    encoded = xl.encode([xl.tokenise([text]) for text in (LONG, "a hat")])
    assert encoded.states.shape[:2] == (2, 154)
    assert encoded.pooled is not None
    for row, texts in enumerate([[LONG], ["a hat", ""]]):
        states, pooled = both_encoders(xl, texts)
        torch.testing.assert_close(encoded.states[row : row + 1], states, **CLOSE)
        torch.testing.assert_close(encoded.pooled[row : row + 1], pooled, **CLOSE)


@pytest.mark.parametrize("negative", ["", "a (blue:1.4) hat BREAK fog"])
def test_sdxl_draws_long_and_weighted_prompts_as_its_pipeline_does_from_encodings(
    xl: Base, negative: str
) -> None:
    text = f"{LONG} (red:0.8)"
    size: dict[str, Any] = {"width": 64, "height": 64}
    request = RenderRequest(
        **size, seeds=(5,), steps=2, scheduler="euler", negative_prompt=negative, negative_format=2
    )
    composition = compose(parse_prompt(text), {}, xl)
    ((picture,)) = render(xl, composition, request, {})

    states, pooled = both_encoders(xl, [f"{LONG} red"])
    states[:, 114 - 75 + 77 + 1] *= 0.8
    unwanted, empty = both_encoders(xl, ["a blue hat", "fog"])
    unwanted[:, 2] *= 1.4
    if not negative:
        unwanted, empty = torch.zeros_like(unwanted), torch.zeros_like(empty)
    pipe = copy.copy(xl.pipe)
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    embeds = {"prompt_embeds": states, "pooled_prompt_embeds": pooled}
    embeds |= {"negative_prompt_embeds": unwanted, "negative_pooled_prompt_embeds": empty}
    generator = torch.Generator().manual_seed(5)
    result = pipe(**embeds, **size, num_inference_steps=2, guidance_scale=6.0, generator=generator)
    difference = np.abs(np.asarray(result.images[0]).astype(int) - np.asarray(picture.image).astype(int))
    assert difference.max() <= 1


def test_a_concept_has_its_embedding_in_whatever_chunk_it_is(tiny_base: Base, xl: Base) -> None:
    for base in (tiny_base, xl):
        pieces = ["a red cat in the snow and " * 16, ConceptPiece("teapot"), " at sea"]
        tokens = base.tokenise(pieces)
        assert tokens.concept_positions == (112 - 75 + 77 + 1,)
        own = [table.weight.detach()[7] for table in base.embedding_tables]
        states = base.encode([tokens], {(0, 0): own}).states[0]
        ids = [list(row) for row in tokens.ids]
        for row in ids:
            row[tokens.concept_positions[0]] = 7
        swapped = Tokens(tuple(map(tuple, ids)), tokens.length, tokens.words, blank=tokens.blank)
        torch.testing.assert_close(states, base.encode([swapped]).states[0], **CLOSE)


def test_words_and_concepts_are_never_cut_in_two(tokenizer: Any) -> None:
    zq = "zqxj"  # four tokens
    assert len(tokenizer(zq).input_ids) == 6
    assert words(clip_tokens(tokenizer, ["a " * 73 + zq + " cat"], 77)) == [["a"] * 73, [zq] * 4 + ["cat"]]
    spelled = ConceptPiece("glass teapot", spelled=True)
    tokens = clip_tokens(tokenizer, ["a " * 74, spelled, " cat"], 77)
    assert words(tokens) == [["a"] * 74, ["glass teapot"] * 2 + ["cat"]]
    assert tokens.concept_tokens == ((78, 79),)
    # What is longer than a chunk has to be.
    parts = words(clip_tokens(tokenizer, ["z" + "q" * 100 + " a"], 77))
    assert [len(part) for part in parts] == [75, 27]


def test_a_full_chunk_ends_behind_its_last_comma(tokenizer: Any) -> None:
    """Among its last twenty tokens, as A1111 has it: what belongs together stays together."""

    def lengths(text: str) -> list[int]:
        return [len(chunk) for chunk in words(clip_tokens(tokenizer, [text], 77))]

    assert lengths("a " * 60 + ", red hat" + " cat" * 20) == [61, 22]
    assert lengths("a " * 55 + ", red hat" + " cat" * 20) == [56, 22]
    assert lengths("a " * 54 + ", red hat" + " cat" * 20) == [75, 2]
    assert lengths("a, " * 60) == [74, 46]


def test_a_prompt_that_fits_is_one_chunk_whatever_it_holds(tokenizer: Any) -> None:
    for text in ("", "a, " * 37 + "a", "a " * 75, "zqxj " * 18):
        whole, cut = (clip_tokens(tokenizer, [text], 77, whole=whole) for whole in (True, False))
        assert whole == cut
        assert whole.chunks == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "cat", ",", "zqxj", "red,", "BREAK", "*"]), max_size=60),
    st.integers(8, 24),
)
def test_every_token_is_in_one_chunk_and_in_its_order(tokenizer: Any, said: list[str], length: int) -> None:
    pieces: list[str | ConceptPiece | ChunkEnd] = [
        ChunkEnd() if word == "BREAK" else ConceptPiece("teapot") if word == "*" else f"{word} "
        for word in said
    ]
    tokens = clip_tokens(tokenizer, pieces, length)
    ids = tokens.ids[0]
    assert len(tokens) == len(ids) == length * tokens.chunks == len(tokens.pieces)
    read = [id_ for id_, piece in zip(ids, tokens.pieces, strict=True) if piece is not None]
    text = " ".join("teapot" if word == "*" else word for word in said if word != "BREAK")
    assert read == tokenizer(text).input_ids[1:-1]
    assert [ids[at] for at in range(0, len(ids), length)] == [tokenizer.bos_token_id] * tokens.chunks
    assert [ids[end] for end in tokens.ends()] == [tokenizer.eos_token_id] * tokens.chunks
    teapot = tokenizer("teapot").input_ids[1]
    assert [ids[at] for at in tokens.concept_positions] == [teapot] * said.count("*")
    breaks = [number for number, piece in enumerate(pieces) if isinstance(piece, ChunkEnd)]
    for at, piece in enumerate(tokens.pieces):  # nothing shares a chunk across a break
        mates = tokens.pieces[at // length * length : (at // length + 1) * length]
        for mate in mates:
            if piece is not None and mate is not None:
                assert not any(min(piece, mate) < number < max(piece, mate) for number in breaks)


def test_a_prompt_of_before_is_cut(tiny_base: Base) -> None:
    tokens = tiny_base.tokenise([LONG], whole=False)
    expected = tiny_base.pipe.tokenizer(LONG, truncation=True, max_length=77).input_ids
    assert list(tokens.ids[0]) == expected
    assert tokens.dropped.endswith("a teapot")
    with pytest.raises(PerfError, match="too long"):
        tiny_base.tokenise([LONG, ConceptPiece("cat")], whole=False)
