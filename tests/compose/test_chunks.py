"""Concepts in prompts of several chunks: Eq. 4 over all of them, against float64 by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from perfusion_registry import edit
from perfusion_registry.compose.checking import SettingSources
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.contributing import targets
from perfusion_registry.compose.drawings import pack_by
from perfusion_registry.compose.encoding import spelled_out
from perfusion_registry.compose.explanation import explain
from perfusion_registry.compose.focusing import residuals
from perfusion_registry.compose.packing import pack
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.methods.perfusion.gate import Gate
from tests.compose.samples import artifact, concepts_of, covariance, on
from tests.compose.test_packing import check_against_paper, layers_of, paper_layer, target_of

FILLING = "red snow " * 37  # 74 tokens
LONG = f"a teddy* in {FILLING} and a teapot* BREAK a hat"
CLOSE = {"rtol": 1e-4, "atol": 1e-4}  # a text encoder rounds otherwise in another batch
GLOBAL = SettingSources(command_all=Gate(bias=0.65, key_lock="global"))


def encoded(base, texts, embeddings):
    """The chunks of a prompt, one text each, in float64, side by side; as `reference_encoding` has one."""
    tokenizer = base.pipe.tokenizer
    encoder = copy.deepcopy(base.text_encoder).double()
    for word, vector in embeddings.items():
        (token,) = tokenizer(word, add_special_tokens=False).input_ids
        encoder.get_input_embeddings().weight.data[token] = vector.double()
    chunks = []
    for text in texts:
        ids = tokenizer(text, padding="max_length", max_length=77, return_tensors="pt").input_ids
        assert ids.shape == (1, 77)
        with torch.no_grad():
            chunks.append(encoder(ids)[0][0].numpy())
    return np.concatenate(chunks)


@pytest.fixture
def composed(tiny_base, concepts):
    return compose(parse_prompt(LONG), concepts, tiny_base)


def long_texts():
    """What is in each of LONG's chunks: the first is full with 75 tokens."""
    words = f"a teddy in {FILLING}and a teapot".split()
    return " ".join(words[:75]), " ".join(words[75:]), "a hat"


def own(artifacts, *names):
    return {name: artifacts[name].tensors["embedding"] for name in names}


def test_packing_is_equation_4_over_all_chunks(tiny_base, concepts, composed):
    artifacts, C = on(concepts), covariance(tiny_base.bank.W.shape[1])
    assert [concept.positions for concept in composed.concepts] == [(2,), (77 + 5,)]
    E = encoded(tiny_base, long_texts(), own(artifacts, "teddy", "teapot"))
    expected = {}
    for path, (W_K, W_V) in layers_of(tiny_base).items():
        found = [target_of(tiny_base, composed, name, path, artifacts) for name in ("teddy", "teapot")]
        expected[path] = (
            paper_layer(E, W_K, C, [(i, o, b, t) for i, o, _, b, t in found]),
            paper_layer(E, W_V, C, [(i, o, b, t) for i, _, o, b, t in found]),
        )
    check_against_paper(tiny_base, pack(tiny_base, composed, artifacts).states[0].numpy(), expected)


def test_plain_keys_are_of_the_words_wherever_they_are(tiny_base):
    """A supercategory of two tokens pushes the last word of a full chunk into the next one."""
    jug = concepts_of(artifact(tiny_base, "jug", "glass teapot", 7))
    composition = compose(parse_prompt("a jug*" + " in snow" * 36 + " red"), jug, tiny_base, GLOBAL)
    packed = pack(tiny_base, composition, on(jug)).states[0]
    assert len(packed) == 77
    E = encoded(tiny_base, ("a glass teapot" + " in snow" * 36, "red"), {})
    # start, a, the last token of the supercategory, the words behind it, red in its own chunk, end
    rows = [0, 1, 3, *range(4, 76), 78, 76]
    for layer in tiny_base.bank.layers:
        K = E[rows] @ layers_of(tiny_base)[layer.path][0].T
        np.testing.assert_allclose(packed[:, layer.key_slice], K, rtol=1e-4, atol=1e-4 * np.abs(K).max())
    spelled = spelled_out(tiny_base, composition, [composition.parsed]).states[0]
    np.testing.assert_allclose(spelled, E[rows], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("lock", ["local", "global"])
def test_the_shorter_of_two_prompts_has_blank_chunks(tiny_base, concepts, composed, lock):
    composition = composed if lock == "local" else compose(parse_prompt(LONG), concepts, tiny_base, GLOBAL)
    short = compose(parse_prompt("a teddy* and a teapot*"), concepts, tiny_base)
    t = targets(tiny_base, composition, on(concepts))
    both = pack(tiny_base, composition, on(concepts), [composition.parsed, parse_prompt("blue")]).states
    assert both.shape[:2] == (2, 231)
    torch.testing.assert_close(both[:1], pack(tiny_base, composition, on(concepts)).states, **CLOSE)
    if lock == "local":
        E = torch.from_numpy(encoded(tiny_base, ("blue", "", ""), {})).float()
        expected = edit.packed(E, tiny_base.bank.W, t.I, t.V, t.O, t.bias, t.temperature)
        torch.testing.assert_close(both[1], expected, rtol=1e-3, atol=1e-3)
    other = pack(tiny_base, short, on(concepts), [short.parsed, parse_prompt(FILLING * 3)]).states
    assert other.shape[:2] == (2, 231)
    torch.testing.assert_close(other[0, :77], pack(tiny_base, short, on(concepts)).states[0], **CLOSE)


def test_residuals_apply_where_their_concept_is_called(tiny_base, concepts):
    composition = compose(parse_prompt(LONG.replace("teapot", "hugsy")), concepts, tiny_base)
    extra = residuals(tiny_base, composition, on(concepts))
    prompts = [composition.parsed, parse_prompt(FILLING * 5)]
    wanted, unwanted = extra.marked(pack(tiny_base, composition, on(concepts), prompts), prompts)
    width = len(tiny_base.bank.W)
    assert wanted.states.shape[1] == unwanted.states.shape[1] == 77 * 5
    assert wanted.states[0, :, width:].nonzero().tolist() == [[82, 0]]
    assert not unwanted.states[..., width:].any()


@pytest.mark.parametrize("drawing", ["rome", "ungated", "index"])
def test_other_ways_to_draw_go_over_all_chunks(tiny_base, concepts, composed, drawing):
    prompts = [composed.parsed, parse_prompt("blue")]
    both = pack_by(drawing, tiny_base, composed, on(concepts), prompts).states
    (alone,) = pack_by(drawing, tiny_base, composed, on(concepts), prompts[:1]).states
    assert both.shape[:2] == (2, 231)
    torch.testing.assert_close(both[0], alone, **CLOSE)
    short = compose(parse_prompt("a teddy* and a teapot*"), concepts, tiny_base)
    (alone,) = pack_by(drawing, tiny_base, short, on(concepts), [short.parsed]).states
    one, other = pack_by(
        drawing, tiny_base, short, on(concepts), [short.parsed, parse_prompt(FILLING * 2)]
    ).states
    assert len(one) == len(other) == 154
    torch.testing.assert_close(one[:77], alone, **CLOSE)


def test_explain_tells_the_chunks(tiny_base, concepts, composed):
    rows = explain(tiny_base, composed, on(concepts)).tokens
    assert [(row.first, row.word, row.chunk) for row in rows if row.word.startswith("<")] == [
        (0, "<start>", 0), (76, "<end>", 0),
        (77, "<start>", 1), (83, "<end>", 1), (84, "<padding>", 1),
        (154, "<start>", 2), (157, "<end>", 2), (158, "<padding>", 2),
    ]  # fmt: skip
    assert [(row.first, row.concept, row.chunk) for row in rows if row.concept] == [
        (2, "teddy", 0),
        (82, "teapot", 1),
    ]
    assert [row.last for row in rows if row.word == "<padding>"] == [153, 230]
