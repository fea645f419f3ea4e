"""Balanced scores and their intervals: laws, and coverage on data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from perfusion_registry.evaluate.statistics import ONCE, Estimate, Resampling, Trainings
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


THREE = Trainings(3, 3, "a model")


def test_replicates_of_several_trainings_are_those_added_up_one_by_one() -> None:
    """Two of three trainings drawn with replacement, across prompts drawn with replacement and their
    pictures."""
    rng, made = np.random.default_rng(2), resampling({"a": [2] * 5, "b": [3] * 5})
    values = {"a": rng.normal(size=30), "b": rng.normal(size=45)}
    values["a"][[3, 17]] = np.nan
    found, drawn = made.by_class(values, trainings=THREE), made._drawn(THREE)
    assert set(drawn.sum(2).ravel()) == {2}
    for column, (name, weights) in enumerate(zip(values, made._weights, strict=True)):
        for replicate in (0, 1, 250, 499):
            total = count = 0.0
            for training, numbers in enumerate(np.split(values[name], 3)):
                for weight, number in zip(weights[replicate], numbers, strict=True):
                    if np.isfinite(number):
                        total += drawn[column, replicate, training] * weight * number
                        count += drawn[column, replicate, training] * weight
            assert found.replicates[replicate, column] == pytest.approx(total / count)
        assert found.value[column] == pytest.approx(np.nanmean(values[name]))


def test_trainings_that_differ_alone_spread_as_a_mean_of_them_does() -> None:
    """The textbook's standard error, of trainings: s / sqrt(3) in each class, and by 2 in the mean of
    four."""
    rng = np.random.default_rng(3)
    made = Resampling({name: [4] * 12 for name in "abcd"}, Bootstrap(resamples=4000))
    trained = {name: rng.normal(size=3) for name in "abcd"}
    values = {name: np.repeat(numbers, 48) for name, numbers in trained.items()}
    spread = made.balanced(made.by_class(values, trainings=THREE)).replicates.std()
    expected = np.sqrt(sum(numbers.var(ddof=1) / 3 for numbers in trained.values())) / 4
    assert spread == pytest.approx(expected, rel=0.05)


def test_intervals_of_several_trainings_cover_what_those_of_pictures_alone_miss() -> None:
    rng, covered = np.random.default_rng(4), {True: 0, False: 0}
    for trial in range(150):
        made = Resampling({name: [4] * 12 for name in "abcd"}, Bootstrap(resamples=200, seed=trial))
        values = {}
        for name in "abcd":
            prompts = np.repeat(rng.normal(scale=0.3, size=12), 4)
            values[name] = np.concatenate(
                [prompts + rng.normal() + rng.normal(scale=0.5, size=48) for _ in range(3)]
            )
        for aware in covered:
            one = {name: numbers[:48] for name, numbers in values.items()}
            estimate = made.by_class(values, trainings=THREE) if aware else made.by_class(one)
            low, high = made.balanced(estimate).interval()
            covered[aware] += low <= 0 <= high
    assert covered[True] >= 0.88 * 150
    assert covered[False] < 0.5 * 150


@pytest.mark.parametrize("rate", [0, 1])
def test_several_trainings_are_no_more_certain_of_a_rate_than_their_prompts(rate: int) -> None:
    """They are asked the same prompts, so that a class of nothing but hits is not known thrice as well."""
    widths = []
    for trainings in (ONCE, THREE):
        made = resampling({name: [2] * 4 for name in "ab"})
        values = {name: np.full(8 * trainings.count, float(rate)) for name in "ab"}
        low, high = made.balanced(made.by_class(values, share=True, trainings=trainings)).interval()
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0], rel=0.15)


def test_points_of_one_model_share_its_trainings_and_other_models_do_not() -> None:
    made = resampling({"a": [2] * 6})
    values = {"a": np.random.default_rng(5).normal(size=36)}
    own, shifted = (made.by_class({"a": values["a"] + by}, trainings=THREE) for by in (0, 1))
    assert np.ptp(shifted.minus(own).replicates) == pytest.approx(0, abs=1e-9)
    other = made.by_class(values, trainings=Trainings(3, 3, "another"))
    assert np.ptp(other.minus(own).replicates) > 0.1


@pytest.mark.parametrize(("count", "classes", "known"), [(1, 8, False), (3, 1, False), (3, 2, True)])
def test_too_few_trainings_have_no_interval(count: int, classes: int, known: bool) -> None:
    """Where a figure asks for several; of the words alone, nobody is trained."""
    made = resampling({str(number): [2] * 12 for number in range(classes)})
    values = {str(number): np.random.default_rng(number).normal(size=24 * count) for number in range(classes)}
    few = made.balanced(made.by_class(values, trainings=Trainings(count, 3, "a model")))
    assert np.isfinite(few.interval()).all() == known
    if count == 1:
        assert np.isfinite(made.balanced(made.by_class(values, trainings=ONCE)).interval()).all()
