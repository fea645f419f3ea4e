"""Budgets of seconds, and learning rates that follow them."""

from __future__ import annotations

import math
import time


class Clock:
    """Seconds used of a budget, over all runs of a resumed job."""

    def __init__(self, budget: float, used: float = 0.0) -> None:
        self.budget = budget
        self._before = used
        self._start = time.monotonic()

    def used(self) -> float:
        """Seconds spent so far, earlier runs included."""
        return self._before + time.monotonic() - self._start

    def progress(self) -> float:
        """The share of the budget that is spent."""
        return self.used() / self.budget


def cosine(progress: float, step: int, *, warmup: int) -> float:
    """The share of the peak learning rate: linear warm-up over `warmup` steps, then a cosine to zero."""
    return min(1.0, (step + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, progress)))


def plateau(progress: float, step: int, *, warmup: int, decay_from: float) -> float:
    """The share of the peak learning rate: warm-up, one, and from `decay_from` of the budget a fall as 1 -
    sqrt."""
    if progress <= decay_from:
        return min(1.0, (step + 1) / warmup)
    return max(1e-3, 1 - math.sqrt(min(1.0, (progress - decay_from) / (1 - decay_from))))
