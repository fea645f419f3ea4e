"""Balanced scores and their intervals: laws, and coverage on data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from perfusion_registry.evaluate.statistics import Estimate, Resampling
from perfusion_registry.evaluate.suite import Bootstrap


def resampling(grid, **options):
    return Resampling(grid, Bootstrap(resamples=500, **options))


def test_every_class_counts_alike_however_many_pictures_it_has() -> None:
    made = resampling({"few": [1], "many": [10, 10, 10]})
    values = {"few": np.ones(1), "many": np.zeros(30)}
    assert float(made.balanced(made.by_class(values)).value) == pytest.approx(0.5)


def test_a_difference_of_equal_scores_has_no_spread() -> None:
    rng = np.random.default_rng(0)
    made = resampling({"a": [4] * 6, "b": [4] * 3})
    values = {"a": rng.normal(size=24), "b": rng.normal(size=12)}
    shifted = {name: numbers + 0.25 for name, numbers in values.items()}
    difference = made.balanced(made.by_class(shifted).minus(made.by_class(values)))
    assert difference.interval() == pytest.approx((0.25, 0.25))


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        made = Resampling({"a": [4] * 20, "b": [4] * 20}, Bootstrap(resamples=200, seed=trial))
        values = {
            name: np.repeat(rng.normal(size=20), 4) + rng.normal(scale=0.5, size=80) for name in ("a", "b")
        }
        low, high = made.balanced(made.by_class(values)).interval()
        covered += low <= 0 <= high
    assert 0.88 <= covered / 200 <= 1.0


def test_pictures_without_a_value_do_not_count() -> None:
    made = resampling({"a": [2] * 6, "b": [2] * 6})
    values = {"a": np.array([1.0, 3.0] * 5 + [np.nan] * 2), "b": np.full(12, np.nan)}
    estimate = made.by_class(values)
    assert estimate.value[0] == 2
    assert np.isnan(estimate.value[1])
    assert float(made.balanced(estimate).value) == 2
    low, high = made.balanced(estimate).interval()
    assert 1 <= low <= 2 <= high <= 3


@pytest.mark.parametrize(("prompts", "known"), [(1, False), (4, False), (5, True)])
def test_few_prompts_of_one_concept_have_no_interval_however_many_pictures(prompts, known) -> None:
    made = resampling({"a": [64] * prompts})
    values = {"a": np.random.default_rng(0).normal(size=64 * prompts)}
    estimate = made.by_class(values)
    assert np.isfinite(made.balanced(estimate).interval()).all() == known
    assert np.isfinite(made.balanced(estimate.minus(estimate)).interval()).all() == known


def test_nothing_at_all_has_no_interval() -> None:
    made = resampling({"a": [2]})
    estimate = made.balanced(made.by_class({"a": np.full(2, np.nan)}))
    assert np.isnan(estimate.value)
    assert np.isnan(estimate.interval()).all()


def test_resampling_concepts_widens_the_interval_of_unlike_concepts() -> None:
    values = {name: np.full(8, float(k)) for k, name in enumerate("abcde")}
    grid = {name: [2] * 4 for name in values}
    widths = []
    for over in ("prompts", "concepts"):
        made = resampling(grid, over=over)
        low, high = made.balanced(made.by_class(values)).interval()
        widths.append(high - low)
    assert widths[0] == pytest.approx(0)
    assert widths[1] > 1


def test_the_harmonic_mean_is_zero_unless_both_are_positive() -> None:
    two = Estimate(np.array([0.5, -0.5]), np.array([[0.5, 0.5]]))
    other = Estimate(np.array([1.0, 1.0]), np.array([[1.0, np.nan]]))
    mean = two.harmonic(other)
    assert mean.value.tolist() == pytest.approx([2 / 3, 0])
    assert mean.replicates[0, 0] == pytest.approx(2 / 3)
    assert np.isnan(mean.replicates[0, 1])


def test_the_best_point_is_chosen_class_by_class() -> None:
    first = Estimate(np.array([1.0, 4.0]), np.array([[1.0, 4.0], [1.1, 4.1]]))
    second = Estimate(np.array([2.0, 3.0]), np.array([[2.0, 3.0], [2.1, 3.1]]))
    chosen = Estimate.chosen([first, second], [1, 0])
    assert chosen.value.tolist() == [2, 4]
    assert chosen.replicates.tolist() == [[2, 4], [2.1, 4.1]]


def test_a_share_of_none_in_few_pictures_is_not_taken_for_certain() -> None:
    widths = []
    for count in (4, 64):
        made = resampling({"a": [count], "b": [count]})
        never = made.balanced(made.by_class({"a": np.zeros(count), "b": np.zeros(count)}, share=True))
        assert float(never.value) == 0
        widths.append(never.interval()[1])
        mixed = {"a": np.arange(count) % 2.0, "b": np.arange(count) % 2.0}
        plain, share = (made.by_class(mixed, share=flag).replicates for flag in (False, True))
        assert np.array_equal(plain, share)
    assert widths[0] > 0.15
    assert widths[1] < 0.05
