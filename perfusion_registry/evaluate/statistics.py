"""Scores per class and their 95 % intervals (Section 5): balanced over classes, bootstrapped over prompts.

Every figure draws the same prompts and seeds for all of its points, so one resampling serves them all, and
the difference of two points is resampled in pairs: the noise that they share cancels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfusion_registry.evaluate.suite import Bootstrap

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A score: its value (), or (C,) by class, and its replicates (R,) or (R, C)."""

    value: Numbers
    replicates: Numbers

    def interval(self) -> tuple[float, float]:
        """The 95 % interval of a score that is one number; nan where it cannot be told."""
        usable = self.replicates[np.isfinite(self.replicates)]
        if not len(usable):
            return float("nan"), float("nan")
        low, high = np.percentile(usable, [2.5, 97.5])
        return float(low), float(high)

    def minus(self, other: Estimate) -> Estimate:
        """The difference, replicate by replicate."""
        return Estimate(self.value - other.value, self.replicates - other.replicates)

    def over(self, other: Estimate) -> Estimate:
        """The ratio, replicate by replicate."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return Estimate(self.value / other.value, self.replicates / other.replicates)

    def harmonic(self, other: Estimate) -> Estimate:
        """The harmonic mean; zero unless both are positive."""
        return Estimate(_harmonic(self.value, other.value), _harmonic(self.replicates, other.replicates))

    @staticmethod
    def mean(estimates: Sequence[Estimate]) -> Estimate:
        """The mean of several, replicate by replicate."""
        return Estimate(
            np.mean([e.value for e in estimates], 0), np.mean([e.replicates for e in estimates], 0)
        )

    @staticmethod
    def chosen(estimates: Sequence[Estimate], which: Sequence[int]) -> Estimate:
        """By class (C,), the estimate `which` says for it."""
        columns = range(len(which))
        value = np.array([estimates[e].value[c] for e, c in zip(which, columns, strict=True)])
        replicates = [estimates[e].replicates[:, c] for e, c in zip(which, columns, strict=True)]
        return Estimate(value, np.stack(replicates, 1))


class Resampling:
    """The resampled pictures of a figure.

    grid: for each class its prompts, for each prompt how many pictures it has. Within a class, prompts are
    drawn with replacement, and for each drawn one its pictures; `over = "concepts"` draws the classes too.
    """

    def __init__(self, grid: Mapping[str, Sequence[int]], bootstrap: Bootstrap) -> None:
        rng = np.random.default_rng(bootstrap.seed)
        self.classes = tuple(grid)
        self._weights = [_weights(rng, counts, bootstrap.resamples) for counts in grid.values()]
        self.resamples = bootstrap.resamples
        self._dice = np.random.default_rng([bootstrap.seed, 1])
        count = len(grid)
        if bootstrap.over == "concepts":
            self._share = rng.multinomial(count, np.full(count, 1 / count), bootstrap.resamples) / count
        else:
            self._share = np.full((bootstrap.resamples, count), 1 / count)

    def by_class(self, values: Mapping[str, Numbers], *, share: bool = False) -> Estimate:
        """The mean of each class. values: for each class its pictures' values, prompt by prompt; nan where a
        picture has none. A class (or a replicate) without any value is nan.

        share: the values are 0 or 1. Where a class has only one of the two, resampling would claim certainty
        from however few pictures; its replicates are drawn from the Jeffreys posterior instead.
        """
        means, replicates = [], []
        for name, weights in zip(self.classes, self._weights, strict=True):
            told = np.isfinite(values[name])
            if share and told.any() and len(np.unique(values[name][told])) == 1:
                hits, count = float(values[name][told].sum()), int(told.sum())
                means.append(hits / count)
                replicates.append(self._dice.beta(hits + 0.5, count - hits + 0.5, self.resamples))
                continue
            numbers = np.where(told, values[name], 0.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                means.append(numbers.sum() / told.sum() if told.any() else np.nan)
                replicates.append((weights @ numbers) / (weights @ told))
        return Estimate(np.array(means), np.stack(replicates, 1))

    def balanced(self, estimate: Estimate) -> Estimate:
        """The mean over classes, each counting alike; classes without a value are left out."""
        told = np.isfinite(estimate.value)
        if not told.any():
            return Estimate(np.array(np.nan), np.full(len(estimate.replicates), np.nan))
        share, values = self._share[:, told], estimate.replicates[:, told]
        usable = np.isfinite(values) & (share > 0)
        weights = np.where(usable, share, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            replicates = (weights * np.where(usable, values, 0.0)).sum(1) / weights.sum(1)
        return Estimate(np.array(estimate.value[told].mean()), replicates)


def _weights(rng: np.random.Generator, counts: Sequence[int], resamples: int) -> Numbers:
    """(R, pictures): how often each picture of a class is drawn in each replicate."""
    prompts = len(counts)
    drawn = rng.multinomial(prompts, np.full(prompts, 1 / prompts), resamples)  # (R, prompts)
    columns = []
    for prompt, count in enumerate(counts):
        # A prompt that was drawn k times draws its pictures k times: k * count draws in all.
        columns.append(rng.multinomial(drawn[:, prompt] * count, np.full(count, 1 / count)) / count)
    return np.concatenate(columns, 1)


def _harmonic(a: Numbers, b: Numbers) -> Numbers:
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = 2 * a * b / (a + b)
    return np.where(np.isnan(a) | np.isnan(b), np.nan, np.where((a > 0) & (b > 0), mean, 0.0))
