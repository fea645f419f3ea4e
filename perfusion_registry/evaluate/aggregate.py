"""From pictures to figures: scores of every operating point, the best of each class, and the claims."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from perfusion_registry.evaluate.metrics import METRICS, MetricName
from perfusion_registry.evaluate.plan import Point
from perfusion_registry.evaluate.results import (
    BestPoint,
    ClaimResult,
    Contrast,
    FigureResult,
    ImageRecord,
    Measured,
    PointResult,
    Verdict,
)
from perfusion_registry.evaluate.statistics import ONCE, Estimate, Numbers, Resampling, Trainings
from perfusion_registry.evaluate.suite import WORDS, Bootstrap, Claim, Figure

BEST = "best H"
"""What claims call the choice of the best point of each class."""


@dataclass(frozen=True)
class _Table:
    """The pictures of a figure: point label -> class -> records, in one order for all points."""

    rows: Mapping[str, Mapping[str, Sequence[ImageRecord]]]

    def values(self, point: str, metric: MetricName) -> dict[str, Numbers]:
        """The metric of every picture, class by class; nan where it says nothing of a picture.

        Image similarity is measured on shape-preserving prompts alone, where the figure has any.
        """
        scene_only = metric in ("image", "dino", "identified") and any(
            record.shape_preserving for judged in self.rows[point].values() for record in judged
        )
        return {
            name: np.array(
                [
                    math.nan
                    if scene_only and not record.shape_preserving
                    else record.metrics.get(metric, math.nan)
                    for record in records
                ]
            )
            for name, records in self.rows[point].items()
        }


def figure_result(
    figure: Figure, points: Sequence[Point], records: Sequence[ImageRecord], bootstrap: Bootstrap
) -> FigureResult:
    """The scores of one figure. points: in the order to show them. records: of this figure, each point's in
    the same order of classes, prompts and seeds."""
    table = _table(points, records)
    first = {name: [r for r in rows if not r.training] for name, rows in table.rows[points[0].label].items()}
    resampling = Resampling({name: _counts(found) for name, found in first.items()}, bootstrap)
    estimates = _estimates(figure, points, table, resampling)
    results = tuple(_point(point, estimates, table, resampling) for point in points)
    best, best_estimates = _best(figure, points, estimates, table, resampling)
    everything = estimates | ({BEST: best_estimates} if best_estimates else {})
    claims = tuple(_claim(claim, everything, resampling) for claim in figure.claims)
    contrasts = tuple(_contrasts(figure, everything, resampling))
    return FigureResult(
        id=figure.id,
        title=figure.title,
        about=figure.about,
        kind=figure.kind,
        points=results,
        best=best,
        claims=claims,
        contrasts=contrasts,
    )


def _table(points: Sequence[Point], records: Sequence[ImageRecord]) -> _Table:
    rows: dict[str, dict[str, list[ImageRecord]]] = {point.label: {} for point in points}
    for record in records:
        rows[record.point].setdefault("+".join(record.concepts), []).append(record)
    for classes in rows.values():
        for found in classes.values():
            found.sort(key=lambda record: record.training)
    return _Table(rows)


def _counts(records: Sequence[ImageRecord]) -> list[int]:
    """How many pictures each prompt of a class has, of one training."""
    counts: dict[tuple[str, str], int] = {}
    for record in records:
        prompt = (record.group, record.template)
        counts[prompt] = counts.get(prompt, 0) + 1
    return list(counts.values())


def _estimates(
    figure: Figure, points: Sequence[Point], table: _Table, resampling: Resampling
) -> dict[str, dict[MetricName, Estimate]]:
    """By point and metric, the estimates by class."""
    plain = [metric for metric in figure.metrics if not METRICS[metric].derived]
    always: list[MetricName] = ["text", "image"]
    wanted = list(dict.fromkeys([*plain, *always]))
    estimates: dict[str, dict[MetricName, Estimate]] = {}
    for point in points:
        trained = _trainings(figure, point, table)
        estimates[point.label] = {
            metric: resampling.by_class(
                table.values(point.label, metric), share=METRICS[metric].kind == "rate", trainings=trained
            )
            for metric in wanted
        }
    words = [p.label for p in points if p.variant.method == WORDS and p.variant.base is None]
    baseline = next(iter(words), None)
    if baseline is not None:
        plain_text = estimates[baseline]["text"]
        for estimate in estimates.values():
            estimate["text_normalised"] = estimate["text"].over(plain_text)
            estimate["harmonic"] = estimate["image"].harmonic(estimate["text_normalised"])
    return {
        label: {metric: estimate[metric] for metric in figure.metrics if metric in estimate}
        for label, estimate in estimates.items()
    }


def _trainings(figure: Figure, point: Point, table: _Table) -> Trainings:
    """Of whom a point's pictures are; the words alone are trained by nobody."""
    variant = point.variant
    if not variant.learned_by:
        return ONCE
    alike = next(v.name for v in figure.variants if v.training_options == variant.training_options)
    count = 1 + max((r.training for found in table.rows[point.label].values() for r in found), default=0)
    return Trainings(count, figure.trainings, alike)


def _point(
    point: Point,
    estimates: Mapping[str, Mapping[MetricName, Estimate]],
    table: _Table,
    resampling: Resampling,
) -> PointResult:
    metrics, classes = {}, {}
    for metric, estimate in estimates[point.label].items():
        measured = _measured(resampling.balanced(estimate), _told(table, point.label, metric))
        if measured is not None:
            metrics[metric] = measured
    for column, name in enumerate(resampling.classes):
        values = {m: float(e.value[column]) for m, e in estimates[point.label].items()}
        classes[name] = {m: _rounded(value) for m, value in values.items() if math.isfinite(value)}
    return PointResult(
        label=point.label,
        variant=point.variant.name,
        bias=point.number("bias"),
        temperature=point.number("temperature"),
        settings=dict(point.settings),
        metrics=metrics,
        classes=classes,
    )


def _best(
    figure: Figure,
    points: Sequence[Point],
    estimates: Mapping[str, Mapping[MetricName, Estimate]],
    table: _Table,
    resampling: Resampling,
) -> tuple[BestPoint | None, dict[MetricName, Estimate] | None]:
    """The point of the greatest harmonic mean of each class, chosen once and not anew in every replicate.

    The paper's choice is one of run-time parameters for a single trained model, and so is this, whatever the
    method: of one that has none to choose there is no best point.
    """
    own = [p for p in points if p.variant.learned_by and not p.variant.drawing and p.variant.base is None]
    trained = own[0].variant.training_options if own else ()
    candidates = [p.label for p in own if p.variant.training_options == trained]
    if not figure.best or len(candidates) < 2 or "harmonic" not in estimates[candidates[0]]:
        return None, None
    heights = np.stack([estimates[label]["harmonic"].value for label in candidates])  # (points, C)
    which = np.nan_to_num(heights, nan=-1.0).argmax(0).tolist()
    chosen = {
        metric: Estimate.chosen([estimates[label][metric] for label in candidates], which)
        for metric in estimates[candidates[0]]
    }
    metrics = {}
    for metric, estimate in chosen.items():
        measured = _measured(resampling.balanced(estimate), _told(table, candidates[0], metric))
        if measured is not None:
            metrics[metric] = measured
    choice = {name: candidates[e] for name, e in zip(resampling.classes, which, strict=True)}
    return BestPoint(choice=choice, metrics=metrics), chosen


def _claim(
    claim: Claim,
    estimates: Mapping[str, Mapping[MetricName, Estimate]],
    resampling: Resampling,
) -> ClaimResult:
    fields = claim.model_dump()
    better = _side(claim.better, claim.metric, estimates)
    if claim.than is not None:
        than = _side(claim.than, claim.metric, estimates)
    else:
        fixed = np.full(len(resampling.classes), claim.at_least)
        than = Estimate(fixed, np.broadcast_to(fixed, (resampling.resamples, len(fixed))))
    if better is None or than is None:
        return ClaimResult(
            **fields, better_value=None, than_value=None, difference=None, verdict="unmeasured"
        )
    values, difference = _difference(better, than, resampling, less=claim.less)
    verdict: Verdict = "unmeasured"
    if difference is not None:
        verdict = "open"
        if difference.low is not None and difference.low > 0:
            verdict = "holds"
        elif difference.high is not None and difference.high < 0:
            verdict = "fails"
    return ClaimResult(
        **fields,
        better_value=_finite(values[0]),
        than_value=_finite(values[1]),
        difference=difference,
        verdict=verdict,
    )


def _difference(
    better: Estimate, than: Estimate, resampling: Resampling, *, less: bool = False
) -> tuple[list[float], Measured | None]:
    """Both values, and by how much the first is above the second, or below it."""
    # Only classes that both sides have count, so that the difference is one of pairs.
    both = np.isfinite(better.value) & np.isfinite(than.value)
    sides = [Estimate(np.where(both, e.value, np.nan), e.replicates, e.spare) for e in (better, than)]
    values = [float(resampling.balanced(side).value) for side in sides]
    first, second = reversed(sides) if less else sides
    return values, _measured(resampling.balanced(first.minus(second)), int(both.sum()))


def _contrasts(
    figure: Figure, estimates: Mapping[str, Mapping[MetricName, Estimate]], resampling: Resampling
) -> Iterator[Contrast]:
    """Each variant that is compared with another, in each metric of which more is better."""
    for variant, metric in itertools.product(figure.variants, figure.metrics):
        if variant.against is None or metric == "leakage":
            continue
        sides = [_side(name, metric, estimates) for name in (variant.name, variant.against)]
        if sides[0] is None or sides[1] is None:
            continue
        values, by = _difference(sides[0], sides[1], resampling)
        if by is None:
            continue
        verdict: Literal["better", "worse", "not told apart", "too few"] = "not told apart"
        if by.low is None or by.high is None:
            verdict = "too few"
        elif by.low > 0 or by.high < 0:
            verdict = "better" if by.low > 0 else "worse"
        yield Contrast(
            metric=metric,
            variant=variant.name,
            against=variant.against,
            value=_rounded(values[0]),
            against_value=_rounded(values[1]),
            difference=by,
            verdict=verdict,
        )


def _side(
    side: str, metric: MetricName, estimates: Mapping[str, Mapping[MetricName, Estimate]]
) -> Estimate | None:
    """One side of a claim: a point, or the mean over all points of a variant."""
    labels = [side] if side in estimates else [label for label in estimates if label.startswith(f"{side}@")]
    measured = [estimates[label][metric] for label in labels if metric in estimates[label]]
    return Estimate.mean(measured) if measured else None


def _told(table: _Table, point: str, metric: MetricName) -> int:
    """How many pictures a metric says something of."""
    plain: MetricName = {"text_normalised": "text", "harmonic": "image"}.get(metric, metric)
    return int(sum(np.isfinite(values).sum() for values in table.values(point, plain).values()))


def _measured(estimate: Estimate, pictures: int) -> Measured | None:
    value = float(estimate.value)
    if not math.isfinite(value):
        return None
    low, high = estimate.interval()
    if math.isfinite(low):
        low, high = min(low, value), max(high, value)
    return Measured(value=_rounded(value), low=_finite(low), high=_finite(high), pictures=pictures)


def _finite(value: float) -> float | None:
    return _rounded(value) if math.isfinite(value) else None


def _rounded(value: float) -> float:
    return round(float(value), 5)
