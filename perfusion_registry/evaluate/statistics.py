"""Scores per class and their 95 % intervals (Section 5): balanced over classes, bootstrapped over prompts.

Every figure draws the same prompts and seeds for all of its points, so one resampling serves them all, and
the difference of two points is resampled in pairs: the noise that they share cancels. Where a figure trains
each concept several times, trainings are resampled too: across the prompts, which all trainings share, and
for each model on its own, since no two models share a training.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from perfusion_registry.evaluate.suite import Bootstrap

Numbers = NDArray[np.float64]


SPARE = 4
"""Below so many spare prompts, or trainings, resampling would take the few there are for all, and no
interval is told."""


@dataclass(frozen=True)
class Trainings:
    """Of whom the pictures of a point are. count: how often each class was trained. wanted: how often its
    figure trains; where that is once, a training's chance is in no interval. model: what is trained; points
    of one model have the same trainings."""

    count: int = 1
    wanted: int = 1
    model: str = ""


ONCE = Trainings()


@dataclass(frozen=True)
class Estimate:
    """A score: its value (), or (C,) by class, and its replicates (R,) or (R, C).

    spare: of what was resampled, how many there are beyond the first (of each class): () or (C,).
    """

    value: Numbers
    replicates: Numbers
    spare: Numbers = field(default_factory=lambda: np.array(np.inf))

    def interval(self) -> tuple[float, float]:
        """The 95 % interval of a score that is one number; nan where it cannot be told."""
        usable = self.replicates[np.isfinite(self.replicates)]
        if not len(usable) or self.spare < SPARE:
            return float("nan"), float("nan")
        low, high = np.percentile(usable, [2.5, 97.5])
        return float(low), float(high)

    def minus(self, other: Estimate) -> Estimate:
        """The difference, replicate by replicate."""
        return self._with(other, self.value - other.value, self.replicates - other.replicates)

    def over(self, other: Estimate) -> Estimate:
        """The ratio, replicate by replicate."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._with(other, self.value / other.value, self.replicates / other.replicates)

    def harmonic(self, other: Estimate) -> Estimate:
        """The harmonic mean; zero unless both are positive."""
        return self._with(
            other, _harmonic(self.value, other.value), _harmonic(self.replicates, other.replicates)
        )

    def _with(self, other: Estimate, value: Numbers, replicates: Numbers) -> Estimate:
        return Estimate(value, replicates, np.minimum(self.spare, other.spare))

    @staticmethod
    def mean(estimates: Sequence[Estimate]) -> Estimate:
        """The mean of several, replicate by replicate."""
        return Estimate(
            np.mean([e.value for e in estimates], 0),
            np.mean([e.replicates for e in estimates], 0),
            np.min([e.spare for e in estimates], 0),
        )

    @staticmethod
    def chosen(estimates: Sequence[Estimate], which: Sequence[int]) -> Estimate:
        """By class (C,), the estimate `which` says for it."""
        columns = range(len(which))
        value = np.array([estimates[e].value[c] for e, c in zip(which, columns, strict=True)])
        replicates = [estimates[e].replicates[:, c] for e, c in zip(which, columns, strict=True)]
        return Estimate(value, np.stack(replicates, 1), np.min([e.spare for e in estimates], 0))


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
        self._generator = np.random.default_rng([bootstrap.seed, 1])
        self._seed = bootstrap.seed
        self._prompts = [np.repeat(np.arange(len(counts)), counts) for counts in grid.values()]
        self._concepts = bootstrap.over == "concepts"
        count = len(grid)
        if bootstrap.over == "concepts":
            self._share = rng.multinomial(count, np.full(count, 1 / count), bootstrap.resamples) / count
        else:
            self._share = np.full((bootstrap.resamples, count), 1 / count)

    def by_class(
        self, values: Mapping[str, Numbers], *, share: bool = False, trainings: Trainings = ONCE
    ) -> Estimate:
        """The mean of each class. values: for each class its pictures' values, prompt by prompt, training
        after training; nan where a picture has none. A class (or a replicate) without any value is nan.

        share: the values are 0 or 1. Where a class has only one of the two, resampling would claim certainty
        from however few pictures; its replicates are drawn from the Jeffreys posterior instead. Of several
        trainings, whose prompts are the same, that counts as many pictures as one of them has.
        """
        means, replicates, spare = [], [], []
        count, drawn = trainings.count, self._drawn(trainings)
        for number, (name, weights, prompts) in enumerate(
            zip(self.classes, self._weights, self._prompts, strict=True)
        ):
            finite = np.isfinite(values[name])
            spare.append(float(max(0, len(np.unique(np.tile(prompts, count)[finite])) - 1)))
            if trainings.wanted > 1:
                spare[-1] = min(spare[-1], count - 1.0)
            if share and finite.any() and len(np.unique(values[name][finite])) == 1:
                rate, pictures = float(values[name][finite][0]), finite.sum() / count
                means.append(rate)
                hits, misses = rate * pictures, (1 - rate) * pictures
                replicates.append(self._generator.beta(hits + 0.5, misses + 0.5, self.resamples))
                if trainings.wanted == 1:
                    spare[-1] = np.inf
                continue
            numbers = np.where(finite, values[name], 0.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                means.append(numbers.sum() / finite.sum() if finite.any() else np.nan)
                # (R, T) sums of each training's pictures, and how many they are.
                sums, counts = (weights @ v.reshape(count, -1).T for v in (numbers, finite))
                replicates.append((drawn[number] * sums).sum(1) / (drawn[number] * counts).sum(1))
        return Estimate(np.array(means), np.stack(replicates, 1), np.array(spare))

    def _drawn(self, trainings: Trainings) -> Numbers:
        """(C, R, T): how often each training of a class is drawn in each replicate.

        Of T one fewer than T are drawn: so the replicates' variance is that of a mean of T, which with T
        draws would be short by one part in T (McCarthy and Snowden 1985).
        """
        count, classes = trainings.count, len(self.classes)
        if count == 1:
            return np.ones((classes, self.resamples, 1))
        generator = np.random.default_rng([self._seed, 2, zlib.crc32(trainings.model.encode())])
        drawn = generator.multinomial(count - 1, np.full(count, 1 / count), (classes, self.resamples))
        return drawn.astype(np.float64)

    def balanced(self, estimate: Estimate) -> Estimate:
        """The mean over classes, each counting alike; classes without a value are left out."""
        finite = np.isfinite(estimate.value)
        if not finite.any():
            return Estimate(np.array(np.nan), np.full(len(estimate.replicates), np.nan))
        share, values = self._share[:, finite], estimate.replicates[:, finite]
        usable = np.isfinite(values) & (share > 0)
        weights = np.where(usable, share, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            replicates = (weights * np.where(usable, values, 0.0)).sum(1) / weights.sum(1)
        spare = (
            finite.sum() - 1
            if self._concepts
            else np.broadcast_to(estimate.spare, finite.shape)[finite].sum()
        )
        return Estimate(np.array(estimate.value[finite].mean()), replicates, np.array(spare))


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
