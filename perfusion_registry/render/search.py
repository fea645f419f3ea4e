"""Search for the best settings under noise, within a budget of trials; no model is needed here.

Coordinate by coordinate, because Eq. 4 gives every concept its own gate and shares only the projection, and
because a product of grids is out of reach. By successive halving in each, because the luck of a seed is
larger than the difference of two neighbouring gates: seeds are better spent on the contenders than on all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from perfusion_registry.errors import PerfError

T = TypeVar("T")


def check_room(images: int, seeds: int) -> None:
    """Raise PerfError where so many pictures do not suffice to compare anything on so many seeds."""
    if images < 3 * seeds:
        raise PerfError(
            f"{images} pictures are too few: the words alone, the gates as they are and one other choice "
            f"take {3 * seeds} on {seeds} seeds",
            where=f"--images {images}",
            hint="allow more with --images, or judge on fewer seeds with --seeds",
        )


@dataclass(frozen=True)
class Trials(Generic[T]):
    """What a search may ask.

    value: how good a candidate is on the first so many seeds; larger is better. cost: how many trials that
    would take which were not made yet.
    """

    value: Callable[[T, int], float]
    cost: Callable[[T, int], int]


def best_of(
    start: T, candidates: Sequence[T], trials: Trials[T], *, seeds: int, budget: int
) -> tuple[T, int]:
    """The best of `candidates` and `start`, and how many trials that took, at most `budget`.

    All are tried on all seeds if the budget allows; else all on one seed, the better half on two, and so on.
    Where even one trial each is too much, an even selection is tried. `start` is tried on all seeds first,
    and stays unless a candidate that came as far as any beats it on the same seeds. Of equals the first wins.
    """
    spent = trials.cost(start, seeds)
    if spent >= budget:
        return start, 0
    trials.value(start, seeds)
    alive = [candidate for candidate in dict.fromkeys(candidates) if candidate != start]
    rungs = [seeds]
    if sum(trials.cost(candidate, seeds) for candidate in alive) > budget - spent:
        rungs = [*(2**k for k in range(seeds.bit_length()) if 2**k < seeds), seeds]
        room = budget - spent
        if sum(trials.cost(candidate, rungs[0]) for candidate in alive) > room:
            alive = [alive[k * len(alive) // room] for k in range(room)]
    far, leaders = 0, alive
    for rung in rungs:
        tried = []
        for candidate in alive:
            cost = trials.cost(candidate, rung)
            if spent + cost > budget:
                break
            spent += cost
            trials.value(candidate, rung)
            tried.append(candidate)
        if not tried:
            break
        leaders = sorted(tried, key=lambda one: -trials.value(one, rung))
        alive, far = leaders[: (len(leaders) + 1) // 2], rung
    if far and trials.value(leaders[0], far) > trials.value(start, far):
        return leaders[0], spent
    return start, spent


def by_coordinate(
    start: tuple[T, ...],
    spaces: Sequence[Sequence[T]],
    trials: Trials[tuple[T, ...]],
    *,
    seeds: int,
    budget: int,
) -> tuple[T, ...]:
    """The best settings that are found when one coordinate at a time takes the values of its space.

    Every coordinate has an equal share of what is left of the budget. The rounds go on until one changes
    nothing or tries nothing new.
    """
    best, left = start, budget
    while True:
        before, had = best, left
        for j, space in enumerate(spaces):
            candidates = [(*best[:j], value, *best[j + 1 :]) for value in space]
            share = left // (len(spaces) - j)
            best, spent = best_of(best, candidates, trials, seeds=seeds, budget=share)
            left -= spent
        if best == before or left == had or len(spaces) < 2:
            return best
