"""Plots of figures, by matplotlib: PNG files for papers, and SVG whose colours follow the report's page."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfusion_registry.evaluate.metrics import METRICS, MetricName
from perfusion_registry.evaluate.results import FigureResult, Measured, PointResult, spoken
from perfusion_registry.extras import lacking
from perfusion_registry.recipe.writing import replace_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

INK, FAINT = "#1b1b1f", "#b9b6ae"
SERIES = ("#2f6fb0", "#c2571a", "#2c8a5b", "#8a4fa3", "#b3902a", "#a8324a", "#4d7c8a")
"""Distinct in print, to most colour-blind eyes, and on dark paper."""
WORDS_COLOUR = "#77746c"
MARKS = "osD^vPX"


@dataclass(frozen=True)
class Plot:
    """A drawn plot: PNG bytes, and SVG whose ink is the page's."""

    png: bytes
    svg: str


def plot(figure: FigureResult) -> Plot | None:
    """Draw a figure; None where it has nothing that a plot could show.

    Raises PerfError where matplotlib is not installed.
    """
    if not figure.points:
        return None
    draw = {"plane": _plane, "training": _plane, "search": _plane, "classes": _classes}.get(
        figure.kind, _bars
    )
    pyplot = require_matplotlib()
    with pyplot.rc_context(_STYLE):
        drawing = draw(pyplot, figure)
        if drawing is None:
            return None
        png, svg = io.BytesIO(), io.BytesIO()
        drawing.savefig(png, format="png", dpi=160, facecolor="white", metadata={"Software": None})
        drawing.savefig(svg, format="svg", transparent=True, metadata={"Date": None})
        pyplot.close(drawing)
    return Plot(png.getvalue(), _on_page(svg.getvalue().decode(), figure))


def write_plots(figures: Sequence[FigureResult], folder: Path) -> dict[str, Plot]:
    """Write `figure-<id>.png` for every figure that has a plot; the plots by figure."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for figure in figures:
        drawn = plot(figure)
        if drawn is not None:
            replace_bytes(folder / f"figure-{figure.id}.png", drawn.png)
            made[figure.id] = drawn
    return made


def require_matplotlib() -> Any:
    """`matplotlib.pyplot`, drawing to files; raises PerfError where it is not installed."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError as error:
        raise lacking(error, "for plots") or error from error
    return pyplot


_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "perf",
    "figure.constrained_layout.use": True,
}


def _plane(pyplot: Any, figure: FigureResult) -> Drawing | None:
    """Image similarity against text similarity; the points of one variant are joined."""
    across: MetricName = "text_normalised"
    if not any(across in point.metrics for point in figure.points):
        across = "text"
    drawing, axes = pyplot.subplots(figsize=(6.6, 4.3))
    rows = _by_series(figure)
    colours = _colours(list(rows))
    for number, (name, points) in enumerate(rows.items()):
        mark = MARKS[(number + number // len(MARKS)) % len(MARKS)]  # colours come round as often
        measured = [p for p in points if across in p.metrics and "image" in p.metrics]
        if not measured:
            continue
        xs, ys = ([p.metrics[m].value for p in measured] for m in (across, "image"))
        _, _, bars = axes.errorbar(
            xs,
            ys,
            xerr=_arms([p.metrics[across] for p in measured]),
            yerr=_arms([p.metrics["image"] for p in measured]),
            color=colours[name],
            marker=mark,
            markersize=6,
            linewidth=1.4 if len(measured) > 1 else 0,
            elinewidth=0.9,
            label=name,
        )
        for bar in bars:  # what is behind the points shall not be louder than they are
            bar.set_alpha(0.45)
        for point, x, y in zip(measured, xs, ys, strict=True):
            note = point.label.partition("@")[2] or _step(point.label)
            if not note and point.variant != name:
                note = point.variant.removeprefix(f"{name}, ")
            if note:
                axes.annotate(
                    note, (x, y), (5, 5), textcoords="offset points", fontsize=8, color=colours[name]
                )
    if figure.chosen is not None:
        _ring(axes, figure, across)
    if figure.best is not None and across in figure.best.metrics:
        text, image = figure.best.metrics[across], figure.best.metrics["image"]
        axes.errorbar(
            [text.value],
            [image.value],
            xerr=_arms([text]),
            yerr=_arms([image]),
            color=INK,
            marker="*",
            markersize=13,
            linewidth=0,
            elinewidth=0.9,
            label="best H of each concept",
        )
    axes.set_xlabel(f"{METRICS[across].title} →")
    axes.set_ylabel(f"{METRICS['image'].title} →")
    _legend(axes, len(rows) + (figure.best is not None))
    return drawing  # type: ignore[no-any-return]


def _ring(axes: Axes, figure: FigureResult, across: MetricName) -> None:
    """Mark the point that a search chose."""
    for point in figure.points:
        if point.label == figure.chosen and across in point.metrics and "image" in point.metrics:
            x, y = point.metrics[across].value, point.metrics["image"].value
            axes.plot(
                [x], [y], "o", color=INK, markersize=15, fillstyle="none", label="chosen", markeredgewidth=1.2
            )


def _classes(pyplot: Any, figure: FigureResult) -> Drawing | None:
    """A plane with a point for each class under each variant, joined class by class."""
    across: MetricName = "text_normalised"
    drawing, axes = pyplot.subplots(figsize=(6.6, 4.6))
    points = [p for p in figure.points if p.variant != "supercategory"]
    names = list(points[0].classes) if points else []
    for number, name in enumerate(names):
        measured = [
            p.classes[name] for p in points if across in p.classes[name] and "image" in p.classes[name]
        ]
        xs, ys = ([row[m] for row in measured] for m in (across, "image"))
        colour = SERIES[number % len(SERIES)]
        axes.plot(xs, ys, color=colour, linewidth=1, alpha=0.6)
        for mark, x, y in zip(MARKS, xs, ys, strict=False):
            axes.plot([x], [y], color=colour, marker=mark, markersize=7, linewidth=0)
        if xs:
            axes.annotate(name, (xs[0], ys[0]), (6, 4), textcoords="offset points", fontsize=8)
    for mark, point in zip(MARKS, points, strict=False):
        axes.plot([], [], color=INK, marker=mark, linewidth=0, label=spoken(point.label))
    axes.set_xlabel(f"{METRICS[across].title} →")
    axes.set_ylabel(f"{METRICS['image'].title} →")
    _legend(axes, len(points))
    return drawing  # type: ignore[no-any-return]


def _bars(pyplot: Any, figure: FigureResult) -> Drawing | None:
    """A row of dots with intervals for every metric that is a share or a similarity."""
    metrics = {metric for point in figure.points for metric in point.metrics} - {"text", "harmonic"}
    shown = [metric for metric in METRICS if metric in metrics]
    if not shown:
        return None
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    height = (0.62 + 0.24 * len(figure.points)) * lines + 0.25
    drawing, grid = pyplot.subplots(lines, columns, figsize=(8.2, height), squeeze=False, sharey=True)
    colours = _colours(list(dict.fromkeys(p.variant for p in figure.points)))
    for place, axes in enumerate(grid.flat):
        if place >= len(shown):
            axes.set_axis_off()
            continue
        metric = shown[place]
        for row, point in enumerate(figure.points):
            estimate = point.metrics.get(metric)
            if estimate is None:
                continue
            axes.errorbar(
                [estimate.value],
                [row],
                xerr=_arms([estimate]),
                color=colours[point.variant],
                marker="o",
                markersize=5.5,
                elinewidth=1.1,
                linewidth=0,
            )
        labels = [spoken(p.label) for p in figure.points]
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(figure.points) - 0.5, -0.5)
        axes.set_title(METRICS[metric].title, fontsize=9, loc="left")
        if metric not in ("image", "text_normalised", "dino"):
            axes.set_xlim(-0.04, 1.04)
            axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        axes.grid(axis="y", visible=False)
    return drawing  # type: ignore[no-any-return]


def _by_series(figure: FigureResult) -> dict[str, list[PointResult]]:
    """The points by the line they are on: their variant, or for training the variant without its steps.
    What is called as another variant of the figure, with more behind a comma, is on that one's line."""
    rows: dict[str, list[PointResult]] = {}
    names = {point.variant for point in figure.points}
    for point in figure.points:
        name = point.variant.partition(",")[0]
        if figure.kind != "training" and name not in names:
            name = point.variant
        rows.setdefault(name, []).append(point)
    return rows


def _step(label: str) -> str:
    match = re.search(r", (\d+) steps", label)
    return f"s {match[1]}" if match else ""


def _colours(names: Sequence[str]) -> dict[str, str]:
    own = [name for name in names if name != "supercategory"]
    return {"supercategory": WORDS_COLOUR} | {n: SERIES[k % len(SERIES)] for k, n in enumerate(own)}


def _arms(estimates: Sequence[Measured]) -> list[list[float]]:
    """The lengths of error bars, down and up."""
    lows = [m.value - (m.value if m.low is None else m.low) for m in estimates]
    highs = [(m.value if m.high is None else m.high) - m.value for m in estimates]
    return [[max(0.0, arm) for arm in lows], [max(0.0, arm) for arm in highs]]


def _legend(axes: Axes, entries: int) -> None:
    longest = max((len(label) for label in axes.get_legend_handles_labels()[1]), default=0)
    columns = max(1, min(4, entries, 78 // (longest + 6)))
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.14), ncols=columns, fontsize=9)


def _on_page(svg: str, figure: FigureResult) -> str:
    """The SVG alone, in the page's ink, with a name, its ids unlike those of other plots on the page."""
    svg = svg[svg.index("<svg") :]
    for colour, variable in ((INK, "--ink"), (FAINT, "--faint")):
        svg = svg.replace(colour, f"var({variable})")
    prefix = "f" + re.sub(r"\W", "", figure.id) + "-"
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = svg.replace('="#', f'="#{prefix}').replace("url(#", f"url(#{prefix}")
    name = escape(f"Plot of figure {figure.id}, {figure.title}; the numbers are in the table below it")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{name}" class="plot" ', 1)
