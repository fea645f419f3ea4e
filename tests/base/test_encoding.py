"""Encodings are the pipeline's own, except where a concept's embedding is put in place."""

from __future__ import annotations

import pytest
import torch

from perfusion_registry.base import Base, ConceptPiece, encode, tokenise

PROMPTS = ["", "a photo of a teddy", "A Teapot, in the SNOW!! zxq", "a " * 100]


def test_without_overrides_it_is_encode_prompt_bit_for_bit(tiny_base: Base) -> None:
    ours = encode(tiny_base, torch.stack([tokenise(tiny_base, [prompt]).ids for prompt in PROMPTS]))
    theirs, _ = tiny_base.pipe.encode_prompt(PROMPTS, tiny_base.device, 1, False)
    assert ours.dtype == torch.float32
    assert torch.equal(ours, theirs)


def test_autocast_does_not_reach_the_encodings(tiny_base: Base) -> None:
    ids = tokenise(tiny_base, ["a photo of a teddy"]).ids[None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = encode(tiny_base, ids)
    assert torch.equal(inside, encode(tiny_base, ids))


def test_an_override_equals_a_token_whose_embedding_it_is(tiny_base: Base) -> None:
    table = tiny_base.text_encoder.get_input_embeddings().weight
    teddy = tokenise(tiny_base, ["a ", ConceptPiece("teddy"), " on a ", ConceptPiece("chair")])
    swapped = tokenise(tiny_base, ["a ", ConceptPiece("teapot"), " on a ", ConceptPiece("dog")])
    at, to = teddy.concept_positions
    overrides = {(1, at): table[swapped.ids[at]], (1, to): table[swapped.ids[to]]}
    E = encode(tiny_base, torch.stack([teddy.ids, teddy.ids]), overrides)
    assert torch.equal(E[1], encode(tiny_base, torch.stack([teddy.ids, swapped.ids]))[1])
    assert torch.equal(E[0], encode(tiny_base, torch.stack([teddy.ids, teddy.ids]))[0])


def test_gradients_reach_the_embedding_and_nothing_else(tiny_base: Base) -> None:
    prompt = tokenise(tiny_base, ["a photo of a ", ConceptPiece("teddy")])
    embedding = torch.zeros(32, requires_grad=True)
    E = encode(tiny_base, prompt.ids[None], {(0, prompt.concept_positions[0]): embedding})
    E[0, -1, 0].backward()  # the padding after the concept sees it
    assert embedding.grad is not None
    assert float(embedding.grad.abs().sum()) > 0
    assert all(parameter.grad is None for parameter in tiny_base.text_encoder.parameters())


def test_the_encoder_is_as_before_even_after_an_error(tiny_base: Base) -> None:
    ids = tokenise(tiny_base, ["a teddy"]).ids[None]
    before = encode(tiny_base, ids)
    with pytest.raises(IndexError):
        encode(tiny_base, ids, {(5, 0): torch.zeros(32)})
    assert not tiny_base.text_encoder.get_input_embeddings()._forward_hooks
    assert torch.equal(encode(tiny_base, ids), before)
