"""Weights in a prompt multiply its encodings before the edit, and never a gate, against float64 by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from perfusion_registry.compose.checking import SettingSources
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.composition import parse_composition
from perfusion_registry.compose.drawings import pack_by
from perfusion_registry.compose.encoding import spelled_out
from perfusion_registry.compose.explanation import explain
from perfusion_registry.compose.focusing import residuals
from perfusion_registry.compose.packing import pack
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.methods.perfusion.gate import Gate
from tests.compose.samples import covariance, on
from tests.compose.test_packing import check_against_paper, layers_of, reference_encoding, target_of

PROMPT = "a (teddy*:1.5) sailing in [a teapot*] on the ((sea):.5)"
EVEN = "a teddy* sailing in a teapot* on the sea"
WEIGHTS = {2: 1.5, 5: 1 / 1.1, 6: 1 / 1.1, 9: 0.55}


def weights(n=77):
    row = np.ones(n)
    for position, weight in WEIGHTS.items():
        row[position] = weight
    return row


def weighted_layer(E, weights, W, C, concepts):
    """Eq. 4 with every encoding times its weight in `W e_perp`, and gates of the encoding as it was.

    E: (n, d). concepts: list of (i, o, bias, temperature). Returns (n, width).
    """
    Cinv = np.linalg.inv(C)
    span = np.stack([i for i, _, _, _ in concepts])  # (J, d)
    inside = np.linalg.solve(span @ Cinv @ span.T, span @ Cinv @ E.T).T @ span  # (n, d)
    h = (weights[:, None] * (E - inside)) @ W.T
    for i, o, bias, temperature in concepts:
        similarity = E @ Cinv @ i / (i @ Cinv @ i)
        h += np.outer(1 / (1 + np.exp(-(similarity - bias) / temperature)), o)
    return h


def own(artifacts, *names):
    return {name: artifacts[name].tensors["embedding"] for name in names}


def test_weights_multiply_what_the_edit_takes(tiny_base, concepts):
    composition = compose(parse_prompt(PROMPT), concepts, tiny_base)
    artifacts, C = on(concepts), covariance(tiny_base.bank.W.shape[1])
    E = reference_encoding(
        tiny_base, "a teddy sailing in a teapot on the sea", own(artifacts, "teddy", "teapot")
    )
    expected = {}
    for path, (W_K, W_V) in layers_of(tiny_base).items():
        found = [target_of(tiny_base, composition, name, path, artifacts) for name in ("teddy", "teapot")]
        expected[path] = (
            weighted_layer(E, weights(), W_K, C, [(i, o, b, t) for i, o, _, b, t in found]),
            weighted_layer(E, weights(), W_V, C, [(i, o, b, t) for i, _, o, b, t in found]),
        )
    packed = pack(tiny_base, composition, artifacts).states[0]
    check_against_paper(tiny_base, packed.numpy(), expected)
    even = pack(tiny_base, compose(parse_prompt(EVEN), concepts, tiny_base), artifacts).states[0]
    rows = [row for row in range(77) if not torch.equal(packed[row], even[row])]
    assert rows == sorted(WEIGHTS)


def test_plain_keys_are_weighted_too(tiny_base, concepts):
    """Appendix C: keys of the prompt with the supercategory, whose encodings have the same weights."""
    command = SettingSources(command_all=Gate(bias=0.65, key_lock="global"))
    composition = compose(parse_prompt(PROMPT), concepts, tiny_base, command)
    packed = pack(tiny_base, composition, on(concepts)).states[0]
    E = weights()[:, None] * reference_encoding(tiny_base, "a teddy sailing in a teapot on the sea", {})
    for layer in tiny_base.bank.layers:
        K = E @ layers_of(tiny_base)[layer.path][0].T
        np.testing.assert_allclose(packed[:, layer.key_slice], K, rtol=1e-4, atol=1e-4 * np.abs(K).max())


def test_no_gate_and_no_residual_hears_of_weights(tiny_base, concepts):
    prompts = [text.replace("teapot", "hugsy") for text in (PROMPT, EVEN)]
    one, other = (compose(parse_prompt(text), concepts, tiny_base) for text in prompts)
    told, plain = (explain(tiny_base, composition, on(concepts)).tokens for composition in (one, other))
    assert [row.model_copy(update={"weight": 1.0}) for row in told] == list(plain)
    assert {row.first: row.weight for row in told if row.weight != 1} == {
        position: pytest.approx(weight) for position, weight in WEIGHTS.items()
    }
    mine, theirs = (residuals(tiny_base, composition, on(concepts)) for composition in (one, other))
    assert torch.equal(mine.focus, theirs.focus)
    for path, (down, up) in mine.factors[0].items():
        assert torch.equal(down, theirs.factors[0][path][0])
        assert torch.equal(up, theirs.factors[0][path][1])


def test_networks_that_read_the_plain_words_read_them_weighted(tiny_base, concepts):
    one, other = (compose(parse_prompt(text), concepts, tiny_base) for text in (PROMPT, EVEN))
    told, plain = (spelled_out(tiny_base, one, [one.parsed]), spelled_out(tiny_base, other, [other.parsed]))
    torch.testing.assert_close(told.states[0], torch.from_numpy(weights()).float()[:, None] * plain.states[0])


@pytest.mark.parametrize("drawing", ["rome", "ungated", "index"])
def test_other_ways_to_draw_are_weighted_in_the_same_way(tiny_base, concepts, drawing):
    """Twice the weight is twice what is the encoding's own: the difference of both is linear in it."""
    artifacts = on(concepts)

    def drawn(text):
        composition = compose(parse_prompt(text), concepts, tiny_base)
        return pack_by(drawing, tiny_base, composition, artifacts, [composition.parsed]).states[0].double()

    one, two, three = (drawn(f"a (teddy*:{w}) in the (snow:{w})") for w in (1, 2, 3))
    torch.testing.assert_close(three - two, two - one, rtol=1e-3, atol=1e-4)
    moved = {row for row in range(77) if not torch.equal(one[row], two[row])}
    assert moved == ({5} if drawing == "index" else {2, 5})
    W, E = tiny_base.bank.W, reference_encoding(tiny_base, "a teddy in the snow", own(artifacts, "teddy"))
    if drawing == "index":
        np.testing.assert_allclose((two - one)[5], E[5] @ W.double().numpy().T, rtol=1e-3, atol=1e-4)


def test_a_negative_prompt_has_weights_of_its_own(tiny_base, concepts):
    composition = compose(parse_prompt(EVEN), concepts, tiny_base)
    texts = ("a (blue:1.4) hat", "a blue hat")
    told, plain = (
        pack(tiny_base, composition, on(concepts), [composition.parsed, parse_prompt(text)]).states
        for text in texts
    )
    assert torch.equal(told[0], plain[0])
    assert [row for row in range(77) if not torch.equal(told[1, row], plain[1, row])] == [2]


def test_a_composition_of_before_there_were_weights_means_what_it_did(tiny_base, concepts):
    """Brackets in it are characters; the prompt typed anew with its escapes is encoded the same."""
    made = compose(parse_prompt("a teddy*"), concepts, tiny_base)
    fields = made.model_dump(mode="json") | {"prompt": "a teddy* (blue:1.3) [hat]"}
    old = parse_composition(json.dumps(fields), where="here")
    new = compose(parse_prompt(r"a teddy* \(blue:1.3\) \[hat\]"), concepts, tiny_base)
    assert (old.schema_version, new.schema_version) == (1, 3)
    assert torch.equal(*(pack(tiny_base, one, on(concepts)).states for one in (old, new)))
    weighted = compose(parse_prompt("a teddy* (blue:1.3) [hat]"), concepts, tiny_base)
    assert weighted.prompt == old.prompt
    assert weighted.schema_version == 3
    again = parse_composition(weighted.to_json(), where="here")
    assert again == weighted
    assert torch.equal(*(pack(tiny_base, one, on(concepts)).states for one in (again, weighted)))
    # What means the same to an older perf is written so that it reads it.
    assert compose(parse_prompt("a teddy* :) (12:00)"), concepts, tiny_base).schema_version == 1
