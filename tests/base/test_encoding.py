"""Encodings are the pipeline's own, except where a concept's embedding is put in place."""

from __future__ import annotations

import threading

import pytest
import torch

from perfusion_registry.base import Base, ConceptPiece

PROMPTS = ["", "a photo of a teddy", "A Teapot, in the SNOW!! zxq", "a " * 100]


def test_without_overrides_it_is_encode_prompt_bit_for_bit(tiny_base: Base) -> None:
    ours = tiny_base.encode([tiny_base.tokenise([prompt], whole=False) for prompt in PROMPTS]).states
    theirs, _ = tiny_base.pipe.encode_prompt(PROMPTS, tiny_base.device, 1, False)
    assert ours.dtype == torch.float32
    assert torch.equal(ours, theirs)


def test_autocast_does_not_reach_the_encodings(tiny_base: Base) -> None:
    prompts = [tiny_base.tokenise(["a photo of a teddy"])]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = tiny_base.encode(prompts).states
    assert torch.equal(inside, tiny_base.encode(prompts).states)


def test_an_override_equals_a_token_whose_embedding_it_is(tiny_base: Base) -> None:
    (table,) = tiny_base.embedding_tables
    teddy = tiny_base.tokenise(["a ", ConceptPiece("teddy"), " on a ", ConceptPiece("chair")])
    swapped = tiny_base.tokenise(["a ", ConceptPiece("teapot"), " on a ", ConceptPiece("dog")])
    at, to = teddy.concept_positions
    overrides = {(1, 0): [table.weight[swapped.ids[0][at]]], (1, 1): [table.weight[swapped.ids[0][to]]]}
    E = tiny_base.encode([teddy, teddy], overrides).states
    assert torch.equal(E[1], tiny_base.encode([teddy, swapped]).states[1])
    assert torch.equal(E[0], tiny_base.encode([teddy, teddy]).states[0])


def test_a_concept_may_be_several_vectors(tiny_base: Base) -> None:
    (table,) = tiny_base.embedding_tables
    vectors = torch.stack([table.weight[id_] for id_ in tiny_base.tokenise(["blue teapot"]).ids[0][1:3]])
    prompt = tiny_base.tokenise(["a ", ConceptPiece("cat", vectors=2), " on a chair"])
    assert (prompt.concept_positions, prompt.concept_tokens) == ((3,), ((2, 3),))
    words = tiny_base.tokenise(["a blue teapot on a chair"])
    assert torch.equal(
        tiny_base.encode([prompt], {(0, 0): [vectors]}).states, tiny_base.encode([words]).states
    )


def test_gradients_reach_the_embedding_and_nothing_else(tiny_base: Base) -> None:
    prompt = tiny_base.tokenise(["a photo of a ", ConceptPiece("teddy")])
    embedding = torch.zeros(32, requires_grad=True)
    E = tiny_base.encode([prompt], {(0, 0): [embedding]}).states
    E[0, -1, 0].backward()  # the padding after the concept sees it
    assert embedding.grad is not None
    assert float(embedding.grad.abs().sum()) > 0
    assert all(parameter.grad is None for parameter in tiny_base.text_encoder.parameters())


def test_the_encoder_is_as_before_even_after_an_error(tiny_base: Base) -> None:
    prompts, (table,) = [tiny_base.tokenise(["a ", ConceptPiece("teddy")])], tiny_base.embedding_tables
    before = tiny_base.encode(prompts).states
    with pytest.raises(RuntimeError):
        tiny_base.encode(prompts, {(0, 0): [torch.zeros(33)]})  # one number too many
    assert not table._forward_hooks
    assert torch.equal(tiny_base.encode(prompts).states, before)


def test_another_threads_prompt_is_encoded_without_our_embeddings(tiny_base: Base) -> None:
    prompts = [tiny_base.tokenise(["a ", ConceptPiece("teddy")])]
    plain, others = tiny_base.encode(prompts).states, []

    def meanwhile(*_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            other = threading.Thread(target=lambda: others.append(tiny_base.encode(prompts).states))
            other.start()
            other.join()

    hook = tiny_base.embedding_tables[0].register_forward_pre_hook(meanwhile)
    try:
        ours = tiny_base.encode(prompts, {(0, 0): [torch.ones(32)]}).states
    finally:
        hook.remove()
    assert torch.equal(others[0], plain)
    assert not torch.equal(ours, plain)
