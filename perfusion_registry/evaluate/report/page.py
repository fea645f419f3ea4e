"""The whole page: what was measured, what holds, figure after figure, and what the numbers mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from perfusion_registry.evaluate.metrics import METRICS, told
from perfusion_registry.evaluate.plots import Plot, write_plots
from perfusion_registry.evaluate.report.strips import PictureGrid, overlays, strips
from perfusion_registry.evaluate.report.tables import (
    Classes,
    Gates,
    ScoreTable,
    classes,
    compared_table,
    gates,
    options,
    scores,
)
from perfusion_registry.evaluate.report.verdicts import VERDICTS, ClaimRow, claim_rows, sentence
from perfusion_registry.evaluate.results import ClaimResult, DrawnOptions, FigureResult, Results, spoken
from perfusion_registry.extras import lacking
from perfusion_registry.recipe.writing import make_folder, replace_bytes

REPORT = "report.html"
_FOLDER = Path(__file__).parent
_TEMPLATE = "page.html"


@dataclass(frozen=True)
class FigureView:
    """A figure as the page shows it. plot: SVG. claims: each with what was measured, in words."""

    figure: FigureResult
    plot: str | None
    plot_caption: str
    claims: tuple[tuple[ClaimResult, str], ...]
    strips: PictureGrid
    overlays: PictureGrid | None
    gates: tuple[Gates, ...]
    options: tuple[DrawnOptions, ...]
    scores: ScoreTable
    classes: Classes | None


def write_report(results: Results, folder: Path) -> Path:
    """Write `report.html`, and the plots as PNG below `plots/`, beside the results; the report's path.

    Raises PerfError when matplotlib, Jinja or a picture of the results is missing.
    """
    make_folder(folder)
    plots = write_plots(results.figures, folder / "plots")
    path = folder / REPORT
    replace_bytes(path, page(results, folder, plots).encode())
    return path


def page(results: Results, folder: Path, plots: Mapping[str, Plot]) -> str:
    """The whole page. folder: of the results, where the pictures are."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise lacking(error, "for a report") or error from error
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value, metric: told(metric, value)
    environment.filters["label"] = spoken
    rows: tuple[ClaimRow, ...] = claim_rows(results)
    return environment.get_template(_TEMPLATE).render(
        suite=results.suite,
        style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        metrics=METRICS,
        verdict_names=VERDICTS,
        facts=_facts(results),
        limits=_limits(results),
        comparison_table=compared_table(results),
        claims=rows,
        counts={name: sum(row.claim.verdict == name for row in rows) for name in VERDICTS},
        figures=[_view(results, figure, folder, plots.get(figure.id), Markup) for figure in results.figures],
        meanings=_meanings(results),
        footer=_footer(results),
    )


def _view(
    results: Results, figure: FigureResult, folder: Path, plot: Plot | None, markup: type[str]
) -> FigureView:
    records = [record for record in results.images if record.figure == figure.id and not record.training]
    return FigureView(
        figure,
        None if plot is None else markup(plot.svg),
        _plot_caption(figure),
        tuple((claim, sentence(claim)) for claim in figure.claims),
        strips(results, figure, records, folder),
        overlays(records, folder),
        gates(results, figure),
        options(results, figure),
        scores(figure),
        classes(figure),
    )


def _facts(results: Results) -> dict[str, str]:
    return {
        "Pictures": f"{len({r.picture for r in results.images}):,} different",
        "Concepts": f"{len({name for r in results.images for name in r.concepts})}",
        "Prompts": f"{len({(r.group, r.template) for r in results.images})}",
        "Base": f"{results.environment.base} ({results.environment.base_digest[:12]})",
    }


def _limits(results: Results) -> list[str]:
    """What a budget left out, so that nobody takes a small run for a whole one."""
    names = {
        "concepts": "concepts (or pairs) in a figure",
        "prompts": "prompts in a group",
        "seeds": "pictures of a prompt",
        "steps": "denoising steps",
        "train_steps": "training steps",
        "trainings": "trainings of a concept",
        "settings": "settings that a search tries",
        "methods": "only the methods",
    }
    budget = {key: value for key, value in results.budget if value not in (None, ())}
    said = {key: ", ".join(v) if isinstance(v, tuple) else v for key, v in budget.items()}
    return [f"{names[key]}: {value}" for key, value in said.items()]


def _plot_caption(figure: FigureResult) -> str:
    pictures = max((m.pictures for p in figure.points for m in p.metrics.values()), default=0)
    caption = (
        f"A mark for each concept, joined over the variants. Pictures of all of them: up to {pictures:,}."
        if figure.kind == "classes"
        else f"Error bars: 95\N{NO-BREAK SPACE}% intervals. Pictures a point: up to {pictures:,}."
    )
    if figure.best is None:
        return caption
    choice = "; ".join(f"{name}: {spoken(point)}" for name, point in figure.best.choice.items())
    return (
        f"{caption} Best H takes {choice}. It is chosen by the pictures that it is scored on, as in the "
        "paper, so no single point can have a greater harmonic mean."
    )


def _meanings(results: Results) -> dict[str, str]:
    """The metrics that this page tells of, how they are averaged, and where intervals come from."""
    shown = {metric for f in results.figures for point in f.points for metric in point.metrics}
    over = {
        "prompts": "each concept's prompts are drawn anew, and within a prompt its pictures",
        "concepts": "concepts are drawn anew, of each its prompts, and within a prompt its pictures",
    }[results.bootstrap.over]
    meanings = {metric.title: metric.meaning for name, metric in METRICS.items() if name in shown}
    meanings["scores"] = "Balanced: the mean over concepts of each concept's mean, so that each counts alike."
    trained = max((record.training for record in results.images), default=0) + 1
    several = f"{trained} trainings of each concept are drawn anew as well. " if trained > 1 else ""
    meanings["intervals"] = (
        f"95\N{NO-BREAK SPACE}%, by {results.bootstrap.resamples:,} bootstrap resamples: {over}. {several}"
        "Differences are resampled in pairs of the same prompt and seed."
    )
    return meanings


def _footer(results: Results) -> str:
    environment = results.environment
    libraries = ", ".join(f"{name} {number}" for name, number in environment.libraries.items())
    return (
        f"perf {environment.perf}; {libraries}; {environment.device} ({environment.processor}), "
        f"{environment.dtype}. Base {environment.base_digest}. Covariance {environment.covariance}. "
        "Every number and picture is in results.json."
    )
