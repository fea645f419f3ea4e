"""Measuring in turns: ours and its baseline one after the other, so that whatever else a machine does falls
on both, and a ratio with the interval that such turns decide.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median

Work = Callable[[], object]
Pair = tuple[Work, Work]
"""Ours, and what it is compared with. A work that returns a float has measured itself, in whatever unit."""


@dataclass(frozen=True)
class Row:
    """One comparison. ours, beside: what is measured, and its baseline, in words. prepare: a context that
    gives both, ready to run. aim: the ratio that the project wants at most; None where it wants none. unit:
    of both.
    """

    ours: str
    beside: str
    prepare: Callable[[], AbstractContextManager[Pair]]
    aim: float | None = None
    unit: str = "ms"

    @property
    def name(self) -> str:
        """What it is known by from one run to the next."""
        return f"{self.ours} / {self.beside}"


@dataclass(frozen=True)
class Measured:
    """A row's result. ours, beside: medians, in `unit`. ratio: the median of the turns' ratios; low, high:
    its 95 % interval, by their order alone (the binomial sign interval of a median; of fewer than 6 turns,
    all)."""

    name: str
    unit: str
    ours: float
    beside: float
    ratio: float
    low: float
    high: float
    turns: int
    aim: float | None = None

    @property
    def missed(self) -> bool:
        """Whether the whole interval is above what is aimed at."""
        return self.aim is not None and self.low > self.aim


def measure(row: Row, turns: int) -> Measured:
    """Run a row's two works in turns, after one turn that warms up; in every other turn ours comes second."""
    taken: list[tuple[float, float]] = []
    with row.prepare() as (ours, beside):
        for turn in range(turns + 1):
            if turn % 2:
                second, first = _taken(beside), _taken(ours)
            else:
                first, second = _taken(ours), _taken(beside)
            if turn:
                taken.append((first, second))
    ratios = sorted(first / second for first, second in taken)
    low, high = interval(len(ratios))
    return Measured(
        name=row.name,
        unit=row.unit,
        ours=median(first for first, _ in taken),
        beside=median(second for _, second in taken),
        ratio=median(ratios),
        low=ratios[low],
        high=ratios[high],
        turns=turns,
        aim=row.aim,
    )


def interval(count: int, outside: float = 0.05) -> tuple[int, int]:
    """Which of `count` sorted values bound their median with a confidence of `1 - outside`: indices of the
    first and the last. With too few values for it, the least and the greatest."""
    low, below = 0, 0.5**count
    while low + 1 < count - 1 - (low + 1):
        below += math.comb(count, low + 1) * 0.5**count
        if 2 * below > outside:
            break
        low += 1
    return low, count - 1 - low


def _taken(work: Work) -> float:
    begun = time.perf_counter()
    said = work()
    return said if isinstance(said, float) else 1000 * (time.perf_counter() - begun)
