"""The whole page: what was measured, what holds, figure after figure, and what the numbers mean."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

from perfusion_registry.evaluate.metrics import METRICS
from perfusion_registry.evaluate.plots import Plot, write_plots
from perfusion_registry.evaluate.report.strips import overlays, strips
from perfusion_registry.evaluate.report.tables import gates, numbers
from perfusion_registry.evaluate.report.verdicts import summary, verdicts
from perfusion_registry.evaluate.results import FigureResult, Results, spoken
from perfusion_registry.recipe.writing import make_folder, replace_bytes

REPORT = "report.html"


def write_report(results: Results, folder: Path) -> Path:
    """Write `report.html`, and the plots as PNG below `plots/`, beside the results; the report's path.

    Raises PerfError when matplotlib or a picture of the results is missing.
    """
    make_folder(folder)
    plots = write_plots(results.figures, folder / "plots")
    path = folder / REPORT
    replace_bytes(path, page(results, folder, plots).encode())
    return path


def page(results: Results, folder: Path, plots: Mapping[str, Plot]) -> str:
    """The whole page. folder: of the results, where the pictures are."""
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    body = "".join(
        [
            _header(results),
            "<main>",
            summary(results),
            *(_figure(results, figure, folder, plots.get(figure.id)) for figure in results.figures),
            _meanings(results),
            "</main>",
            _footer(results),
        ]
    )
    title = escape(results.suite.title)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _header(results: Results) -> str:
    drawn = [f for f in results.figures if not f.left_out]
    facts = {
        "Pictures": f"{len({r.picture for r in results.images}):,} different",
        "Concepts": f"{len({name for r in results.images for name in r.concepts})}",
        "Prompts": f"{len({(r.group, r.template) for r in results.images})}",
        "Base": f"{results.environment.base} ({results.environment.base_digest[:12]})",
    }
    links = "".join(
        f'<a href="#figure-{escape(f.id)}">{escape(f.id)}&ensp;{escape(f.title)}</a>' for f in drawn
    )
    return (
        f'<header><p class="kicker">Evaluation of {escape(results.suite.name)}</p>'
        f"<h1>{escape(results.suite.title)}</h1>"
        f'<p class="lead">{escape(" ".join(results.suite.about.split()))}</p>'
        f'<dl class="facts">{_listed(facts)}</dl>{_shrunk(results)}<nav aria-label="Figures">{links}'
        '<a href="#meanings">What the numbers mean</a></nav></header>'
    )


def _shrunk(results: Results) -> str:
    """What a budget left out, so that nobody takes a small run for a whole one."""
    names = {
        "concepts": "concepts (or pairs) in a figure",
        "prompts": "prompts in a group",
        "seeds": "pictures of a prompt",
        "steps": "denoising steps",
        "train_steps": "training steps",
    }
    limits = [
        f"{names[key]}: {value}" for key, value in results.budget.model_dump().items() if value is not None
    ]
    if not limits:
        return ""
    return (
        f'<p class="note"><strong>A shrunk run.</strong> At most, {escape("; ".join(limits))}. '
        "Numbers and verdicts are those of this small sample, not of the whole suite.</p>"
    )


def _figure(results: Results, figure: FigureResult, folder: Path, plot: Plot | None) -> str:
    opening = (
        f'<section id="figure-{escape(figure.id)}"><p class="kicker">Figure {escape(figure.id)}</p>'
        f"<h2>{escape(figure.title)}</h2>"
    )
    if figure.left_out:
        return f'{opening}<p class="note">Not drawn: {escape(figure.left_out)}.</p></section>'
    about = " ".join(figure.about.split())
    records = [record for record in results.images if record.figure == figure.id]
    pictures = strips(results, figure, records, folder)
    measured = _plot(figure, plot) + verdicts(figure)
    parts = [
        opening,
        f"<p>{escape(about)}</p>" if about else "",
        *([pictures, measured] if figure.kind == "strip" else [measured, pictures]),
        overlays(records, folder),
        gates(results, figure),
        numbers(figure),
        "</section>",
    ]
    return "".join(parts)


def _plot(figure: FigureResult, plot: Plot | None) -> str:
    if plot is None:
        return ""
    pictures = max((m.pictures for p in figure.points for m in p.metrics.values()), default=0)
    caption = (
        f"A mark for each concept, joined over the variants. Pictures of all of them: up to {pictures:,}."
        if figure.kind == "classes"
        else f"Error bars: 95\N{NO-BREAK SPACE}% intervals. Pictures a point: up to {pictures:,}."
    )
    if figure.best is not None:
        choice = "; ".join(f"{name}: {spoken(point)}" for name, point in figure.best.choice.items())
        caption += (
            f" Best H takes {choice}. It is chosen by the pictures that it is scored on, as in the paper, so "
            "no single point can have a greater harmonic mean."
        )
    return f'<figure><div class="scroll">{plot.svg}</div><figcaption>{escape(caption)}</figcaption></figure>'


def _meanings(results: Results) -> str:
    """The metrics that this page tells of, how they are averaged, and where intervals come from."""
    shown = {metric for f in results.figures for point in f.points for metric in point.metrics}
    over = {
        "prompts": "each concept's prompts are drawn anew, and within a prompt its pictures",
        "concepts": "concepts are drawn anew, of each its prompts, and within a prompt its pictures",
    }[results.bootstrap.over]
    meanings = {metric.title: metric.meaning for name, metric in METRICS.items() if name in shown}
    meanings["scores"] = "Balanced: the mean over concepts of each concept's mean, so that each counts alike."
    meanings["intervals"] = (
        f"95\N{NO-BREAK SPACE}%, by {results.bootstrap.resamples:,} bootstrap resamples: {over}. "
        "Differences are resampled in pairs of the same prompt and seed."
    )
    return (
        '<section id="meanings"><h2>What the numbers mean</h2>'
        f'<dl class="meanings">{_listed(meanings)}</dl></section>'
    )


def _listed(terms: Mapping[str, str]) -> str:
    return "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in terms.items())


def _footer(results: Results) -> str:
    environment = results.environment
    libraries = ", ".join(f"{name} {number}" for name, number in environment.libraries.items())
    text = (
        f"perf {environment.perf}; {libraries}; {environment.device} ({environment.processor}), "
        f"{environment.dtype}. Base {environment.base_digest}. Covariance {environment.covariance}. "
        "Every number and picture is in results.json."
    )
    return f"<footer>{escape(text)}</footer>"
