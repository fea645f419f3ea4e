import json

import numpy as np
import pytest

from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.encoding import encodings
from perfusion_registry.compose.explanation import explain
from perfusion_registry.compose.prompt import parse_prompt
from tests.compose.samples import covariance, on


@pytest.fixture(scope="module")
def explained(tiny_base, concepts):
    composition = compose(parse_prompt("A teddy*{bias=.5} on a teapot*"), concepts, tiny_base)
    return composition, explain(tiny_base, composition, on(concepts))


def test_rows_are_the_tokens_with_padding_as_one(explained):
    _, explanation = explained
    rows = [(row.first, row.last, row.word, row.concept) for row in explanation.tokens]
    assert rows == [
        (0, 0, "<start>", None),
        (1, 1, "A", None),
        (2, 2, "teddy", "teddy"),
        (3, 3, "on", None),
        (4, 4, "a", None),
        (5, 5, "teapot", "teapot"),
        (6, 6, "<end>", None),
        (7, 76, "<padding>", None),
    ]


def test_numbers_are_those_of_the_paper(tiny_base, concepts, explained):
    """Similarities, gates and removed energy from C itself, in float64; explain has only the duals."""
    composition, explanation = explained
    _, encoded = encodings(tiny_base, composition, on(concepts))
    E = encoded.states[0].double().numpy()
    Cinv = np.linalg.inv(covariance(E.shape[1]))
    names = [c.name for c in composition.concepts]
    I = np.stack([concepts[n].artifact.tensors["target_input"].double().numpy() for n in names])  # noqa: E741
    energies = np.diag(I @ Cinv @ I.T)
    similarity = E @ Cinv @ I.T / energies
    # The least-squares projection onto the targets in the metric of C^-1.
    root = np.linalg.cholesky(Cinv)
    coefficients, *_ = np.linalg.lstsq(root.T @ I.T, root.T @ E.T, rcond=None)
    inside = coefficients.T @ I
    removed = np.einsum("nd,de,ne->n", inside, Cinv, inside) / energies.mean()
    for row in explanation.tokens:
        span = slice(row.first, row.last + 1)
        for j, c in enumerate(composition.concepts):
            gate = 1 / (1 + np.exp(-(similarity[span, j] - c.render.bias) / c.render.temperature))
            assert row.similarity[c.name] == pytest.approx(similarity[span, j].max(), abs=1e-3)
            assert row.gate[c.name] == pytest.approx(gate.max(), abs=1e-3)
        assert row.removed == pytest.approx(removed[span].max(), rel=1e-2, abs=1e-3)


def test_the_gates_that_open_are_named_widest_first(explained):
    _, explanation = explained
    for concept in explanation.concepts:
        opened = [row for row in explanation.tokens if row.gate[concept.name] >= 0.5]
        opened.sort(key=lambda row: -row.gate[concept.name])
        assert concept.opens_at == tuple(f"{r.concept}*" if r.concept else r.word for r in opened)
        assert f"{concept.name}*" in concept.opens_at


def test_json_reads_back(explained):
    _, explanation = explained
    assert type(explanation).model_validate_json(explanation.model_dump_json()) == explanation
    assert json.loads(explanation.model_dump_json())["tokens"][2]["concept"] == "teddy"


def test_a_prompt_without_concepts_has_rows_and_no_gates(tiny_base):
    explanation = explain(tiny_base, compose(parse_prompt("a red hat"), {}, tiny_base), {})
    assert [row.word for row in explanation.tokens[:4]] == ["<start>", "a", "red", "hat"]
    assert all(row.gate == {} and row.removed == 0 for row in explanation.tokens)


def test_a_full_prompt_has_no_padding(tiny_base):
    explanation = explain(tiny_base, compose(parse_prompt("snow " * 75), {}, tiny_base), {})
    assert [row.word for row in explanation.tokens[-2:]] == ["snow", "<end>"]
    empty = explain(tiny_base, compose(parse_prompt(""), {}, tiny_base), {})
    assert [row.word for row in empty.tokens] == ["<start>", "<end>", "<padding>"]
