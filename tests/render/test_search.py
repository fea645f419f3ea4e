"""The search for settings, against going through everything; no model is needed."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import product
from random import Random

import pytest

from perfusion_registry.render.search import Trials, best_of, by_coordinate


class Course:
    """Values with luck in them that is the same whoever asks, and a book of every trial that was made."""

    def __init__(self, worth, luck=0.0):
        self.worth, self.luck = worth, luck
        self.made: dict[Hashable, int] = {}
        self.count = 0

    @property
    def trials(self):
        return Trials(self.value, self.cost)

    def cost(self, candidate, seeds):
        return max(0, seeds - self.made.get(candidate, 0))

    def value(self, candidate, seeds):
        self.count += self.cost(candidate, seeds)
        self.made[candidate] = max(seeds, self.made.get(candidate, 0))
        return self.plain(candidate, seeds)

    def plain(self, candidate, seeds):
        """Without a trial."""
        luck = [Random(f"{candidate} {seed}").gauss(0, self.luck) for seed in range(seeds)]
        return self.worth(candidate) + sum(luck) / seeds


@pytest.mark.parametrize("seed", range(20))
def test_with_room_for_all_the_best_is_found_exactly(seed):
    worth = {c: Random(f"{seed}{c}").random() for c in range(14)}
    course = Course(worth.__getitem__, luck=1.0)
    course.value(0, 4)
    best, spent = best_of(0, range(14), course.trials, seeds=4, budget=13 * 4)
    assert best == max(worth, key=lambda c: course.plain(c, 4))
    assert spent == 13 * 4


@pytest.mark.parametrize("budget", range(70))
@pytest.mark.parametrize("seeds", [1, 3, 4])
def test_no_budget_is_exceeded_and_the_start_stays_unless_it_is_beaten(budget, seeds):
    course = Course(lambda c: -abs(c - 9.2), luck=2.0)
    best, spent = best_of(3, range(14), course.trials, seeds=seeds, budget=budget)
    assert spent == course.count <= budget
    if best != 3:
        far = course.made[best]
        assert far == max(n for c, n in course.made.items() if c != 3)
        assert course.plain(best, far) > course.plain(3, far)
        rivals = [c for c, n in course.made.items() if n == far and c != 3]
        assert course.plain(best, far) == max(course.plain(c, far) for c in rivals)


def test_halving_gives_the_contenders_more_seeds():
    course = Course(float)
    best, spent = best_of(0, range(15), course.trials, seeds=4, budget=40)
    assert (best, spent) == (14, course.count)
    tried = sorted((n for c, n in course.made.items() if c), reverse=True)
    assert tried == [4] * 4 + [2] * 3 + [1] * 7  # 14 on one seed, the better 7 on two, the better 4 on all
    assert course.made[0] == 4


def test_a_budget_for_a_few_is_spread_over_the_range():
    course = Course(lambda c: 0.0)
    best_of(0, range(101), course.trials, seeds=1, budget=6)
    assert sorted(course.made) == [0, 1, 21, 41, 61, 81]


def test_coordinates_that_do_not_meet_are_found_exactly():
    """Against the whole product of the spaces."""
    spaces = [range(7), range(5), range(6)]
    for seed in range(10):
        part = [[Random(f"{seed} {j} {v}").random() for v in space] for j, space in enumerate(spaces)]
        course = Course(lambda c, part=part: sum(part[j][v] for j, v in enumerate(c)))
        best = by_coordinate((0, 0, 0), spaces, course.trials, seeds=2, budget=10_000)
        assert best == max(product(*spaces), key=course.worth)
        assert course.count < 100 < 7 * 5 * 6


def test_rounds_go_on_until_no_single_change_helps():
    """Where coordinates do meet, one round is not enough: here the way up is a staircase."""
    spaces = [range(9), range(9)]
    course = Course(lambda c: c[0] + c[1] - 3 * abs(c[0] - c[1] - 0.5))
    best = by_coordinate((0, 0), spaces, course.trials, seeds=1, budget=10_000)
    for j, space in enumerate(spaces):
        for value in space:
            other = tuple(value if k == j else best[k] for k in range(2))
            assert course.worth(other) <= course.worth(best)
    assert best == (8, 8)


@pytest.mark.parametrize("budget", [0, 1, 5, 30, 60])
def test_all_coordinates_have_their_share(budget):
    course = Course(lambda c: float(sum(c)), luck=0.1)
    course.value((0, 0), 4)
    before = course.count
    best = by_coordinate((0, 0), [range(10), range(10)], course.trials, seeds=4, budget=budget)
    assert course.count - before <= budget
    if budget >= 30:
        assert min(best) >= 7
