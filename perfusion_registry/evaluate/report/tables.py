"""Tables: how open each gate is at each token, and the numbers behind the plots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perfusion_registry.amounts import duration, size
from perfusion_registry.evaluate.metrics import METRICS, MetricName
from perfusion_registry.evaluate.results import (
    Conclusion,
    DrawnOptions,
    FigureResult,
    GateTable,
    Measured,
    Results,
    spoken,
)


@dataclass(frozen=True)
class Gates:
    """One concept's gate at each token of a prompt, point by point."""

    concept: str
    prompt: str
    points: tuple[GateTable, ...]


@dataclass(frozen=True)
class ScoreTable:
    """A row of measured metrics for each point of a figure, by its label."""

    metrics: tuple[MetricName, ...]
    rows: tuple[tuple[str, Mapping[MetricName, Measured]], ...]


@dataclass(frozen=True)
class Classes:
    """One metric of every class (a column), point by point; None where it was not measured."""

    metric: MetricName
    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]


@dataclass(frozen=True)
class ComparedView:
    """A variant on the table of a comparison, as it is written. measured: a metric and what it came to,
    column by column; None where it was not measured."""

    label: str
    costs: tuple[str, ...]
    measured: tuple[tuple[MetricName, Measured | None], ...]


@dataclass(frozen=True)
class ComparedTable:
    """The table of a comparison, and what follows from it."""

    heads: tuple[str, ...]
    rows: tuple[ComparedView, ...]
    conclusions: tuple[Conclusion, ...]


def compared_table(results: Results) -> ComparedTable | None:
    """The table of a comparison, costs first; None where a suite has none."""
    if results.comparison is None:
        return None
    rows, titles = results.comparison.rows, {figure.id: figure.title for figure in results.figures}
    columns = [
        (figure, metric)
        for figure in dict.fromkeys(name for row in rows for name in row.metrics)
        for metric in METRICS
        if any(metric in row.metrics.get(figure, {}) for row in rows)
    ]
    first = columns[0][0] if columns else ""
    heads = [
        METRICS[metric].title + ("" if figure == first else f" ({titles[figure].lower()})")
        for figure, metric in columns
    ]
    return ComparedTable(
        ("numbers learned", "artifact", "learned in", "memory", *heads),
        tuple(
            ComparedView(
                spoken(row.variant),
                (
                    "" if row.parameters is None else f"{row.parameters:,.0f}",
                    "" if row.bytes is None else size(round(row.bytes)),
                    "" if row.seconds is None else duration(row.seconds),
                    "" if row.memory is None else size(round(row.memory)),
                ),
                tuple((metric, row.metrics.get(figure, {}).get(metric)) for figure, metric in columns),
            )
            for row in rows
        ),
        results.comparison.conclusions,
    )


def gates(results: Results, figure: FigureResult) -> tuple[Gates, ...]:
    """The gates of a figure, prompt after prompt."""
    tables = [table for table in results.gates if table.figure == figure.id]
    all_gates = []
    for prompt in dict.fromkeys(table.prompt for table in tables):
        same = tuple(table for table in tables if table.prompt == prompt)
        names = dict.fromkeys(name for token in same[0].tokens for name in token.gate)
        all_gates += [Gates(name, prompt, same) for name in names]
    return tuple(all_gates)


def options(results: Results, figure: FigureResult) -> tuple[DrawnOptions, ...]:
    """How a figure's concepts are drawn, point by point, where their method has options and no gates."""
    return tuple(drawn for drawn in results.options if drawn.figure == figure.id)


def scores(figure: FigureResult) -> ScoreTable:
    """The scores of every point, and of the best of them where it is chosen class by class."""
    rows = [(spoken(point.label), point.metrics) for point in figure.points]
    if figure.best is not None:
        rows.append(("best H", figure.best.metrics))
    return ScoreTable(_shown(figure), tuple(rows))


def classes(figure: FigureResult) -> Classes | None:
    """One metric, class by class: the harmonic mean where there is one."""
    chosen: tuple[MetricName, ...] = ("harmonic", "both", "image")
    metric = next((m for m in chosen if m in _shown(figure)), None)
    if metric is None:
        return None
    names = tuple(dict.fromkeys(name for point in figure.points for name in point.classes))
    rows = tuple(
        (spoken(point.label), tuple(point.classes.get(name, {}).get(metric) for name in names))
        for point in figure.points
    )
    return Classes(metric, names, rows)


def _shown(figure: FigureResult) -> tuple[MetricName, ...]:
    return tuple(metric for metric in METRICS if any(metric in point.metrics for point in figure.points))
