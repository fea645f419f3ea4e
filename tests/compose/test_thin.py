"""The thin form says of every composition what packed says, which is held against the paper."""

import pytest
import torch

from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.packing import edited, pack, thin
from perfusion_registry.compose.prompt import parse_prompt
from tests.compose.samples import on
from tests.compose.test_chunks import LONG
from tests.forms import answered, apart

PROMPTS = {
    "two": "A teddy*{bias=.55} sailing in a teapot*{temperature=.3} on the sea",
    "trained keys": "a cat*{bias=.4} and a teapot* by the fire",
    "global lock": "a teddy*{lock=global} in a teapot*{lock=global}",
    "all three locks": "a teddy*{lock=global} a teapot* a cat*",
    "weights": "(a teddy*:1.4) in a (blue:0.5) teapot*",
    "several chunks": LONG,
    "residuals": "a hugsy* in a teapot*",
    "a residual under a global lock": "a hugsy*{lock=global} in a teapot*",
    "no concept": "a (blue:1.5) hat",
}


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
@torch.no_grad()
def test_it_is_what_packed_is(tiny_base, concepts, prompt):
    composition = compose(parse_prompt(prompt), concepts, tiny_base)
    assert apart(tiny_base, composition, on(concepts)) < 1e-5
    if composition.concepts:
        plain = compose(parse_prompt(composition.parsed.spoken(composition.words)), {}, tiny_base)
        one, other = (answered(tiny_base, c, on(concepts), "thin") for c in (composition, plain))
        assert not torch.allclose(one, other, atol=1e-3)


@torch.no_grad()
def test_it_is_made_without_a_second_copy_of_the_projections(tiny_base, concepts):
    """And each projection's part of packed follows from it, by the mathematics."""
    composition = compose(parse_prompt(PROMPTS["all three locks"]), concepts, tiny_base)
    bank, artifacts = tiny_base.bank, on(concepts)
    packed = pack(tiny_base, composition, artifacts)
    vars(bank).pop("W")
    read = thin(tiny_base, composition, artifacts)
    assert "W" not in vars(bank)
    d, gates = bank.width, read.thin.gates
    values, keys = (read.states[..., start : start + d + gates] for start in (0, d + gates))
    for layer in bank.layers:
        for part, columns in ((keys, layer.key_slice), (values, layer.value_slice)):
            made = part[..., :d] @ bank.W[columns].T
            made = made + part[..., d : d + 3] @ read.thin.outputs[:, columns]
            torch.testing.assert_close(made, packed.states[..., columns], rtol=1e-4, atol=1e-4)
    teddy, cat = (composition.concepts[j] for j in (0, 2))
    assert float(keys[0, :, d].abs().max()) == 0  # teddy's lock is global: the keys know no gate of it
    assert float(values[0, teddy.positions[0], d]) > 0.5
    assert float(keys[0, cat.positions[0], d + 2]) > 0.5
    assert not read.states[..., 2 * (d + gates) :].any()


def test_the_form_is_the_bases_own_unless_somebody_says(tiny_base, concepts, monkeypatch):
    composition = compose(parse_prompt("a teddy*"), concepts, tiny_base)
    given = tiny_base, composition, on(concepts)
    monkeypatch.setenv("PERF_FORM", "thin")
    assert edited(*given).form == "thin"
    assert edited(*given, form="packed").form == "packed"
    monkeypatch.delenv("PERF_FORM")
    assert edited(*given).form == "packed"
    assert edited(*given, form="thin").form == "thin"


@torch.no_grad()
def test_gates_are_those_of_the_encodings_and_of_no_weight(tiny_base, concepts):
    even, heavy = (
        thin(tiny_base, compose(parse_prompt(text), concepts, tiny_base), on(concepts))
        for text in ("a teddy*", "a (teddy*:1.5)")
    )
    d, gates = tiny_base.bank.width, even.thin.gates
    assert torch.equal(*(one.states[..., d : d + gates] for one in (even, heavy)))
    ratio = heavy.states[0, 2, :d] / even.states[0, 2, :d]
    assert torch.allclose(ratio, torch.full((d,), 1.5), atol=1e-3)
    assert not torch.equal(even.states, heavy.states)
