"""Budgets of seconds or steps, and learning rates that follow them."""

from __future__ import annotations

import math
import time


class Clock:
    """How much of a budget is spent, over all runs of a resumed job.

    budget: seconds, of which `used` are spent. steps: a budget of steps, for what should not depend on how
    fast a machine is; of the two, the one that is further spent counts.
    """

    def __init__(self, budget: float, used: float = 0.0, *, steps: float = math.inf) -> None:
        self.budget, self.steps = budget, steps
        self._before = used
        self._start = time.monotonic()

    def used(self) -> float:
        """Seconds spent so far, earlier runs included."""
        return self._before + time.monotonic() - self._start

    def progress(self, step: int) -> float:
        """The share of the budget that is spent when `step` steps are done."""
        return max(self.used() / self.budget, step / self.steps)


def cosine(progress: float, step: int, *, warmup: int) -> float:
    """The share of the peak learning rate: linear warm-up over `warmup` steps, then a cosine to zero."""
    return min(1.0, (step + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, progress)))


def plateau(progress: float, step: int, *, warmup: int, decay_from: float) -> float:
    """The share of the peak learning rate: warm-up, one, and from `decay_from` of the budget a fall as 1 -
    sqrt."""
    if progress <= decay_from:
        return min(1.0, (step + 1) / warmup)
    return max(1e-3, 1 - math.sqrt(min(1.0, (progress - decay_from) / (1 - decay_from))))
