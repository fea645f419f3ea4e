"""Other ways to draw perfusion, packed through the base, against `edit.baselines` in float64."""

import numpy as np
import pytest
import torch

from perfusion_registry import edit
from perfusion_registry.artifact import Artifact
from perfusion_registry.compose.checking import SettingSources
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.contributing import targets
from perfusion_registry.compose.drawings import pack_by
from perfusion_registry.compose.encoding import encodings
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.interface import KeptStep
from perfusion_registry.methods.perfusion.gate import Gate
from perfusion_registry.methods.textual_inversion.options import NoOptions
from perfusion_registry.methods.textual_inversion.options import TrainOptions as InversionOptions
from tests.compose.samples import artifact, concepts_of, covariance, on

PROMPT = "A teddy* sailing in a teapot*"


@pytest.fixture(scope="module")
def made(tiny_base, concepts):
    """The composition of PROMPT with its encodings, targets and C, in float64."""
    composition = compose(parse_prompt(PROMPT), concepts, tiny_base)
    _, encoded = encodings(tiny_base, composition, on(concepts))
    return composition, encoded.states[0].double(), targets(tiny_base, composition, on(concepts))


def test_the_naive_sum_is_equation_1_added_to_the_weights(tiny_base, concepts, made):
    composition, E, every = made
    C = torch.from_numpy(covariance(tiny_base.bank.W.shape[1]))
    W_hat = edit.naive_sum(tiny_base.bank.W.double(), C, every.I.double(), every.O.double())
    (h,) = pack_by("rome", tiny_base, composition, on(concepts), [parse_prompt(PROMPT)]).states
    np.testing.assert_allclose(h, E @ W_hat.T, rtol=1e-4, atol=1e-3)


def test_ungated_is_equation_2(tiny_base, concepts, made):
    composition, E, every = made
    W, V = tiny_base.bank.W.double(), every.V.double()
    (h,) = pack_by("ungated", tiny_base, composition, on(concepts), [parse_prompt(PROMPT)]).states
    expected = edit.ungated(E, W, every.I.double(), V, every.O.double())
    np.testing.assert_allclose(h, expected, rtol=1e-4, atol=1e-3)


def test_the_sum_and_equation_2_part_where_concepts_overlap(tiny_base, concepts, made):
    composition, _, _ = made
    summed, ungated = (
        pack_by(method, tiny_base, composition, on(concepts), [parse_prompt(PROMPT)]).states
        for method in ("rome", "ungated")
    )
    assert float((summed - ungated).abs().max()) > 1e-2


def test_index_replaces_the_concepts_tokens_and_nothing_else(tiny_base, concepts, made):
    composition, E, every = made
    (h,) = pack_by("index", tiny_base, composition, on(concepts), [parse_prompt(PROMPT)]).states
    plain = (E @ tiny_base.bank.W.double().T).numpy()
    places = {position: j for j, c in enumerate(composition.concepts) for position in c.positions}
    assert len(places) == 2
    for position in range(len(h)):
        expected = every.O[places[position]] if position in places else plain[position]
        np.testing.assert_allclose(h[position], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("negative", ["", "a red cat"])
def test_a_negative_prompt_goes_through_the_same_edit(tiny_base, concepts, made, negative):
    composition, _, every = made
    _, h = pack_by(
        "rome", tiny_base, composition, on(concepts), [composition.parsed, parse_prompt(negative)]
    ).states
    tokens = tiny_base.tokenise([negative] if negative else [])
    with torch.no_grad():
        E = tiny_base.encode([tokens]).states[0].double()
    C = torch.from_numpy(covariance(tiny_base.bank.W.shape[1]))
    W_hat = edit.naive_sum(tiny_base.bank.W.double(), C, every.I.double(), every.O.double())
    np.testing.assert_allclose(h, E @ W_hat.T, rtol=1e-4, atol=1e-3)


def test_a_global_lock_is_no_edit(tiny_base, concepts):
    lock = SettingSources(command_all=Gate(key_lock="global"))
    composition = compose(parse_prompt(PROMPT), concepts, tiny_base, lock)
    with pytest.raises(PerfError, match="global lock"):
        pack_by("rome", tiny_base, composition, on(concepts), [parse_prompt(PROMPT)])


def test_another_prompt_cannot_call_concepts(tiny_base, concepts, made):
    composition, _, _ = made
    with pytest.raises(PerfError, match="no other can call concepts"):
        pack_by("rome", tiny_base, composition, on(concepts), [parse_prompt("a teddy*")])


def test_a_concept_of_another_method_cannot_be_drawn_so(tiny_base, concepts):
    card = {
        "method": "textual-inversion",
        "train": InversionOptions(),
        "render": NoOptions(),
        "built": KeptStep(step=1),
        "architecture": "stable-diffusion",
        "requires_perf": "0.1",
        "schema_version": 2,
    }
    made = artifact(tiny_base, "oak", "teddy", 5, **card)
    oak = concepts_of(Artifact(made.card, {"embedding": made.tensors["embedding"]}))
    for prompt, both in {"an oak*": oak, "an oak* and a teddy*": oak | {"teddy": concepts["teddy"]}}.items():
        composition = compose(parse_prompt(prompt), both, tiny_base)
        with pytest.raises(PerfError, match=r"'oak' cannot be drawn by 'rome'.*`textual-inversion`"):
            pack_by("rome", tiny_base, composition, on(both), [parse_prompt(prompt)])
