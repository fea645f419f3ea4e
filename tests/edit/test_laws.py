"""The laws of the edit, against a transcription of the paper that shares no code with the package."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from perfusion_registry.edit import (
    CovarianceMetric,
    gate,
    naive_sum,
    packed,
    parted,
    perpendicular,
    rome_weight,
    similarity,
    ungated,
)
from tests.edit import reference
from tests.edit.problem import Problem, make, problems


def close(a: torch.Tensor, b: torch.Tensor | np.ndarray, tolerance: float = 1e-9) -> None:
    b = torch.as_tensor(b)
    scale = max(1.0, float(b.abs().max()))
    assert float((a - b).abs().max()) <= tolerance * scale


@given(problems(1, 1))
def test_one_concept_is_algorithm_1(p: Problem) -> None:
    expected = reference.algorithm_1(
        p.E.numpy(),
        p.W.numpy(),
        p.C.numpy(),
        p.I[0].numpy(),
        p.O[0].numpy(),
        float(p.bias),
        float(p.temperature),
    )
    close(packed(*p.arguments), expected)


@given(problems(1, 5))
def test_many_concepts_are_equation_4(p: Problem) -> None:
    numbers = [x.numpy() for x in (p.E, p.W, p.C, p.I, p.O, p.bias, p.temperature)]
    close(packed(*p.arguments), reference.equation_4(*numbers))


@given(problems(1, 5))
def test_gram_form_is_the_qr_form_of_appendix_b(p: Problem) -> None:
    expected = [reference.orthogonal_component(e.numpy(), p.C.numpy(), p.I.numpy()) for e in p.E]
    close(perpendicular(p.E, p.I, p.V), np.array(expected))


@given(problems(1, 5))
def test_the_perpendicular_part_is_orthogonal_to_every_target_in_the_metric(p: Problem) -> None:
    left = perpendicular(p.E, p.I, p.V) @ torch.linalg.inv(p.C) @ p.I.T
    norms = (p.E @ p.V.T).abs().max()
    assert float(left.abs().max()) <= 1e-9 * float(norms)


@given(problems(1, 1))
def test_equation_2_is_equation_1_applied(p: Problem) -> None:
    weight = rome_weight(p.W, p.C, p.I[0], p.O[0])
    close(weight, reference.equation_1(p.W.numpy(), p.C.numpy(), p.I[0].numpy(), p.O[0].numpy()))
    close(ungated(p.E, p.W, p.I, p.V, p.O), p.E @ weight.T)
    close(weight @ p.I[0], p.O[0])


@given(problems(2, 4))
def test_the_naive_sum_is_every_equation_1_added(p: Problem) -> None:
    numbers = p.W.numpy(), p.C.numpy()
    edits = [
        reference.equation_1(*numbers, i.numpy(), o.numpy()) - numbers[0]
        for i, o in zip(p.I, p.O, strict=True)
    ]
    close(naive_sum(p.W, p.C, p.I, p.O), numbers[0] + sum(edits))


@given(problems(2, 5), st.randoms())
def test_the_order_of_concepts_changes_nothing(p: Problem, dice: object) -> None:
    order = list(range(len(p.I)))
    dice.shuffle(order)  # type: ignore[attr-defined]
    shuffled = packed(p.E, p.W, p.I[order], p.V[order], p.O[order], p.bias[order], p.temperature[order])
    close(shuffled, packed(*p.arguments))


@given(problems(1, 4), st.floats(1e-4, 1e4), st.sampled_from([0.0, 0.01, 0.3]))
def test_the_scale_of_the_covariance_changes_nothing(p: Problem, scale: float, ridge: float) -> None:
    first, second = (
        packed(p.E, p.W, p.I, CovarianceMetric(C, ridge).dual(p.I), p.O, p.bias, p.temperature)
        for C in (p.C, p.C * scale)
    )
    close(second, first)


@given(problems(1, 1))
def test_an_orthogonal_token_leaks_the_sigmoid_of_minus_bias_over_temperature(p: Problem) -> None:
    E = perpendicular(p.E[:-1], p.I, p.V)
    expected = E @ p.W.T + torch.sigmoid(-p.bias / p.temperature) * p.O
    close(packed(E, *p.arguments[1:]), expected)


@given(problems(1, 4))
def test_the_target_itself_has_similarity_one(p: Problem) -> None:
    own = similarity(p.I, p.I, p.V).diagonal()
    assert torch.allclose(own, torch.ones_like(own), rtol=1e-12, atol=0)


def test_the_gate_at_the_target_in_training() -> None:
    at_target = gate(torch.ones(1, 1), torch.tensor([0.75]), torch.tensor([0.1]))
    assert abs(float(at_target) - 0.9241418) < 1e-6


@given(problems(1, 3))
def test_whitened_dot_products_are_similarities(p: Problem) -> None:
    metric = CovarianceMetric(p.C, ridge=0.0)
    close(metric.whiten(p.E) @ metric.whiten(p.I).T, p.E.numpy() @ np.linalg.inv(p.C.numpy()) @ p.I.numpy().T)


def test_without_concepts_it_is_the_bank_alone_to_the_last_bit() -> None:
    p = make(0, 2)
    none = slice(0, 0)
    alone = packed(p.E, p.W, p.I[none], p.V[none], p.O[none], p.bias[none], p.temperature[none])
    assert torch.equal(alone, p.E @ p.W.T)


def test_a_batch_may_mix_concepts() -> None:
    """Two prompts, each with concepts of its own."""
    left, right = make(1, 2), make(2, 2)
    W = left.W
    stacked = [torch.stack(pair) for pair in zip(left.arguments, right.arguments, strict=True)]
    together = packed(stacked[0], W, *stacked[2:])
    for row, p in zip(together, (left, right), strict=True):
        close(row, packed(p.E, W, *p.arguments[2:]))


@given(problems(1, 3))
def test_gradients_reach_outputs_and_encodings_and_never_targets(p: Problem) -> None:
    E, I, V, O = (x.clone().requires_grad_() for x in (p.E, p.I, p.V, p.O))  # noqa: E741
    packed(E, p.W, I, V, O, p.bias, p.temperature).square().sum().backward()
    assert I.grad is None
    assert V.grad is None
    assert float(O.grad.abs().sum()) > 0  # type: ignore[union-attr]
    assert torch.autograd.gradcheck(
        lambda e, o: packed(e, p.W, p.I, p.V, o, p.bias, p.temperature), (E[:3], O), fast_mode=True
    )


@given(problems(1, 3))
def test_masked_positions_are_left_as_they_are(p: Problem) -> None:
    mask = torch.arange(len(p.E)) % 2 == 0
    h = packed(*p.arguments, mask=mask)
    assert torch.equal(h[mask], packed(*p.arguments)[mask])
    close(h[~mask], p.E[~mask] @ p.W.T)


@given(problems(0, 4), st.booleans(), st.booleans())
def test_its_parts_are_what_each_projection_needs_for_itself(p: Problem, masked: bool, weighed: bool) -> None:
    """Eq. 4 of a projection's rows of the bank, by itself, from encodings and gates that know no bank."""
    mask = torch.arange(len(p.E)) % 3 > 0 if masked else None
    weights = torch.linspace(0.5, 1.5, len(p.E), dtype=p.E.dtype) if weighed else None
    rest, gates = parted(p.E, p.I, p.V, p.bias, p.temperature, weights, mask)
    assert rest.shape == p.E.shape
    assert gates.shape == (len(p.E), len(p.I))
    whole = packed(*p.arguments, weights, mask)
    for rows in (slice(0, 4), slice(4, 9)):
        close(rest @ p.W[rows].T + gates @ p.O[:, rows], whole[:, rows].numpy())
    if masked:
        assert torch.equal(gates[~mask], torch.zeros_like(gates[~mask]))
        left = p.E[~mask] if weights is None else p.E[~mask] * weights[~mask, None]
        assert torch.equal(rest[~mask], left)
    elif not weighed and len(p.I):
        numbers = [x.numpy() for x in (p.E, p.W[:4], p.C, p.I, p.O[:, :4], p.bias, p.temperature)]
        close(rest @ p.W[:4].T + gates @ p.O[:, :4], reference.equation_4(*numbers))
