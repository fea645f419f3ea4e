"""Residuals of a composition: where they are called, and how strongly."""

from __future__ import annotations

import math

import pytest
import torch

from perfusion_registry.base import Conditioning
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.explanation import explain
from perfusion_registry.compose.focusing import residuals
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.methods.residuals.tensors import residual_of
from tests.compose.samples import on


def of(base, concepts, prompt):
    composition = compose(parse_prompt(prompt), concepts, base)
    return composition, residuals(base, composition, on(concepts))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_the_focus_marks_each_call_of_what_has_a_residual(tiny_base, concepts):
    composition, found = of(tiny_base, concepts, "a teapot* and a hugsy* and a hugsy*")
    assert found.focus.nonzero().tolist() == [[5, 0], [8, 0]]
    assert len(found.factors) == 1
    packed = Conditioning(torch.rand(3, 77, 9))
    prompts = [composition.parsed, parse_prompt(""), parse_prompt("a hat")]
    wanted, unwanted = (both.states for both in found.marked(packed, prompts))
    assert torch.equal(torch.cat([wanted, unwanted])[..., :9], packed.states)
    assert torch.equal(wanted[..., 9:10], found.focus[None])
    assert unwanted.shape == (2, *wanted.shape[1:])
    assert float(unwanted[..., 9:].sum()) == 0


def test_without_residuals_there_is_nothing(tiny_base, concepts):
    for prompt in ("a teapot*", "a hat", "a hugsy*{residual=0}"):
        composition, found = of(tiny_base, concepts, prompt)
        packed = Conditioning(torch.rand(2, 77, 9))
        assert found.factors == []
        wanted, unwanted = found.marked(packed, [composition.parsed, parse_prompt("")])
        assert torch.equal(torch.cat([wanted.states, unwanted.states]), packed.states)


@pytest.mark.parametrize(
    ("bias", "temperature", "strength"), [(0.2, 0.1, 1.0), (1.0, 0.2, 1.0), (1.3, 0.1, 0.5)]
)
def test_a_closing_gate_takes_the_residual_along(tiny_base, concepts, bias, temperature, strength):
    prompt = f"a hugsy*{{bias={bias},temperature={temperature},residual={strength}}} in the snow"
    composition, found = of(tiny_base, concepts, prompt)
    artifact = concepts["hugsy"].artifact
    similarity = explain(tiny_base, composition, on(concepts)).tokens[2].similarity["hugsy"]
    train = artifact.card.train
    now = sigmoid((similarity - bias) / temperature)
    expected = strength * min(1.0, now / sigmoid((similarity - train.bias) / train.temperature))
    for path, (down, up) in residual_of(artifact.tensors).items():
        assert torch.equal(found.factors[0][path][0], down.float())
        assert torch.allclose(found.factors[0][path][1], up.float() * expected, rtol=1e-4)
