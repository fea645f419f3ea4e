"""The report: one self-contained HTML file that a person wants to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from perfusion_registry.evaluate import inlined
from perfusion_registry.evaluate.budget import spread
from perfusion_registry.evaluate.plots import NAMES, Plot, write_plots
from perfusion_registry.evaluate.results import (
    ClaimResult,
    FigureResult,
    GateTable,
    ImageRecord,
    Measured,
    Results,
)
from perfusion_registry.evaluate.suite import MetricName
from perfusion_registry.recipe.writing import make_folder, replace_bytes

REPORT = "report.html"
ROWS = 6
"""How many prompts the strips of a figure show."""
COLUMNS = 12

SIMILARITIES = frozenset(["image", "text", "text_normalised", "harmonic", "dino"])
"""Told as numbers; every other metric is a share, told in per cent."""

VERDICTS = {
    "holds": "Holds",
    "fails": "Fails",
    "open": "Open",
    "unmeasured": "No data",
}


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
    style = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
    body = "".join(
        [
            _header(results),
            "<main>",
            _summary(results),
            *(_figure(results, figure, folder, plots.get(figure.id)) for figure in results.figures),
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
    told = [f for f in results.figures if not f.left_out]
    names = {name for record in results.images for name in record.concepts}
    over = {
        "prompts": "prompts and pictures resampled within each concept",
        "concepts": "concepts, prompts and pictures resampled",
    }[results.bootstrap.over]
    facts = {
        "Base": f"{results.environment.base} ({results.environment.base_digest[:12]})",
        "Pictures": f"{len({r.picture for r in results.images}):,} different",
        "Concepts": f"{len(names)}",
        "Prompts": f"{len({(r.group, r.template) for r in results.images})}",
        "Intervals": f"95 %, {results.bootstrap.resamples:,} bootstrap resamples: {over}",
        "Scores": "balanced: the mean over concepts of each concept's mean",
    }
    listed = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items())
    links = "".join(
        f'<a href="#figure-{escape(f.id)}">{escape(f.id)}&ensp;{escape(f.title)}</a>' for f in told
    )
    return (
        f'<header><p class="kicker">Evaluation of {escape(results.suite.name)}</p>'
        f"<h1>{escape(results.suite.title)}</h1>"
        f'<p class="lead">{escape(" ".join(results.suite.about.split()))}</p>'
        f'<dl class="facts">{listed}</dl>{_shrunk(results)}<nav>{links}</nav></header>'
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


def _summary(results: Results) -> str:
    """Every claim with its verdict and interval, on one table."""
    rows = []
    claims = [(figure, claim) for figure in results.figures for claim in figure.claims]
    if not claims:
        return ""
    for figure, claim in claims:
        rows.append(
            f'<tr><td><a href="#figure-{escape(figure.id)}">{escape(figure.id)}</a></td>'
            f"<td>{escape(claim.text)}</td><td>{_chip(claim)}</td>"
            f"<td>{_forest(claim)}</td>"
            f'<td class="number">{_difference(claim)}</td></tr>'
        )
    counts = [
        f"{sum(c.verdict == verdict for _, c in claims)} {told}"
        for verdict, told in (("holds", "hold"), ("fails", "fail"), ("open", "stay open"))
    ]
    return (
        "<section><h2>What holds here</h2>"
        f"<p>Of {len(claims)} orderings that the paper claims or the project set itself, "
        f"{counts[0]}, {counts[1]} and {counts[2]}. A claim holds when the 95 % interval of the difference, "
        "over the same prompts and seeds, lies above zero; it fails when it lies below; else the pictures "
        "here do not decide it.</p>"
        '<div class="scroll"><table class="claims"><thead><tr><th>Figure</th><th>Claim</th><th>Verdict</th>'
        '<th>Difference</th><th class="number"></th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _figure(results: Results, figure: FigureResult, folder: Path, plot: Plot | None) -> str:
    opening = (
        f'<section id="figure-{escape(figure.id)}"><p class="kicker">Figure {escape(figure.id)}</p>'
        f"<h2>{escape(figure.title)}</h2>"
    )
    if figure.left_out:
        return f'{opening}<p class="note">Not drawn: {escape(figure.left_out)}.</p></section>'
    records = [record for record in results.images if record.figure == figure.id]
    parts = [opening, f"<p>{escape(' '.join(figure.about.split()))}</p>" if figure.about.strip() else ""]
    if figure.kind == "strip":
        parts += [_strips(results, figure, records, folder), _plot(figure, plot), _verdicts(figure)]
    else:
        parts += [_plot(figure, plot), _verdicts(figure), _strips(results, figure, records, folder)]
    parts += [_overlays(figure, records, folder), _gates(results, figure), _numbers(figure), "</section>"]
    return "".join(parts)


def _plot(figure: FigureResult, plot: Plot | None) -> str:
    if plot is None:
        return ""
    pictures = max((m.pictures for p in figure.points for m in p.metrics.values()), default=0)
    told = f"Error bars: 95 % intervals. Up to {pictures:,} pictures a point."
    if figure.best is not None:
        choice = "; ".join(f"{name}: {point}" for name, point in figure.best.choice.items())
        told += f" Best H takes {choice}."
    return f"<figure>{plot.svg}<figcaption>{escape(told)}</figcaption></figure>"


def _verdicts(figure: FigureResult) -> str:
    if not figure.claims:
        return ""
    items = "".join(
        f"<li>{_chip(c)} {escape(c.text)}<small>{_sentence(c)}</small></li>" for c in figure.claims
    )
    return f'<ul class="verdicts">{items}</ul>'


def _sentence(claim: ClaimResult) -> str:
    """What was measured, in words."""
    if claim.better_value is None or claim.than_value is None or claim.difference is None:
        return "Nothing in this run measures it."
    metric = NAMES[claim.metric]
    better = f"{_told(claim.metric, claim.better_value)} ({claim.better})"
    than = _told(claim.metric, claim.than_value) + (f" ({claim.than})" if claim.than else " asked for")
    wanted = "less is better; " if claim.less else ""
    ending = {
        "holds": "It holds here.",
        "fails": "Here it is the other way round." if claim.than else "It is not reached here.",
        "open": "The interval holds zero, so this run does not decide it.",
    }.get(claim.verdict, "")
    difference = _difference(claim, plain=True)
    return escape(
        f"{metric.capitalize()}: {better} against {than}; {wanted}difference {difference}. {ending}"
    )


def _chip(claim: ClaimResult) -> str:
    return f'<span class="chip {claim.verdict}">{VERDICTS[claim.verdict]}</span>'


def _difference(claim: ClaimResult, *, plain: bool = False) -> str:
    found = claim.difference
    if found is None:
        return ""
    value = _told(claim.metric, found.value, signed=True)
    if found.low is None or found.high is None:
        return value
    low, high = (_told(claim.metric, v, signed=True) for v in (found.low, found.high))
    between = f"{low} to {high}"
    return f"{value} ({between})" if plain else f"{value}<br><small>{between}</small>"


def _forest(claim: ClaimResult) -> str:
    """The difference as a dot with its interval, zero in the middle."""
    found = claim.difference
    if found is None or found.low is None or found.high is None:
        return ""
    reach = max(abs(found.low), abs(found.high), abs(found.value), 1e-6) * 1.1
    low, high, value = (88 + 84 * v / reach for v in (found.low, found.high, found.value))
    return (
        f'<svg class="forest {claim.verdict}" viewBox="0 0 176 20" role="img" '
        f'aria-label="{escape(_difference(claim, plain=True))}">'
        '<line x1="88" x2="88" y1="1" y2="19" stroke="var(--faint)"/>'
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="10" y2="10" stroke="currentColor" stroke-width="2"/>'
        f'<circle cx="{value:.1f}" cy="10" r="4" fill="currentColor"/></svg>'
    )


def _strips(results: Results, figure: FigureResult, records: Sequence[ImageRecord], folder: Path) -> str:
    """Pictures side by side: a prompt in each row, an operating point (or, of one, a seed) in each column."""
    points = [point.label for point in figure.points]
    gated = [label for label in points if label != "supercategory"]
    by_seed = len(gated) == 1
    columns = (
        [(gated[0], seed) for seed in sorted({record.seed for record in records})]
        if by_seed
        else [(label, min(record.seed for record in records)) for label in points]
    )[:COLUMNS]
    heads = [f"seed {seed}" if by_seed else label.replace("@", " at ") for label, seed in columns]
    found = {(r.concepts, r.group, r.template, r.point, r.seed): r for r in records}
    cells = ['<div class="head"></div><div class="head">learned from</div>']
    cells += [f'<div class="head">{escape(head)}</div>' for head in heads]
    for concepts, group, template in _rows(records):
        shown = [found.get((concepts, group, template, *column)) for column in columns]
        prompt = next((r.prompt for r in shown if r is not None and "*" in r.prompt), template)
        cells.append(f'<div class="label">{escape(prompt)}</div>')
        cells.append(f'<div class="reference">{_reference(results, figure, concepts[0], folder)}</div>')
        cells += [_image(folder, record) for record in shown]
    told = "every seed" if by_seed else "the first seed of every prompt; nothing is picked by eye"
    return (
        f'<h3>Pictures</h3><div class="scroll"><div class="strip" '
        f'style="grid-template-columns: auto auto repeat({len(columns)}, auto)">{"".join(cells)}</div></div>'
        f"<figcaption>{escape(told.capitalize())}.</figcaption>"
    )


def _rows(records: Sequence[ImageRecord]) -> tuple[tuple[tuple[str, ...], str, str], ...]:
    """Subjects and prompts to show, evenly spread over all there are."""
    rows = list(dict.fromkeys((record.concepts, record.group, record.template) for record in records))
    return spread(rows, ROWS)


def _reference(results: Results, figure: FigureResult, name: str, folder: Path) -> str:
    for concept in results.concepts:
        if concept.figure == figure.id and concept.name == name:
            return f'<img alt="{escape(name)}" src="{inlined.picture(folder / concept.images[0])}">'
    return ""


def _image(folder: Path, record: ImageRecord | None) -> str:
    if record is None:
        return "<div></div>"
    scores = ", ".join(f"{NAMES[m]} {_told(m, value)}" for m, value in sorted(record.metrics.items()))
    return (
        f'<div><img loading="lazy" alt="{escape(record.prompt)}" title="{escape(scores)}" '
        f'src="{inlined.picture(folder / record.picture)}"></div>'
    )


def _overlays(figure: FigureResult, records: Sequence[ImageRecord], folder: Path) -> str:
    """Pictures lit where the concept's word drew attention."""
    seen = [record for record in records if record.attention is not None]
    if not seen:
        return ""
    first = min(record.seed for record in seen)
    points = list(dict.fromkeys(record.point for record in seen))
    found = {(r.concepts, r.group, r.template, r.point): r for r in seen if r.seed == first}
    cells = ['<div class="head"></div>', *(f'<div class="head">{escape(p)}</div>' for p in points)]
    for row in _rows(seen):
        cells.append(f'<div class="label">{escape(row[2].replace("{}", row[0][0] + "*"))}</div>')
        for point in points:
            record = found.get((*row, point))
            if record is None or record.attention is None:
                cells.append("<div></div>")
                continue
            lit = inlined.spotlit(folder / record.picture, folder / record.attention)
            told = _told("leakage", record.metrics["leakage"]) if "leakage" in record.metrics else ""
            cells.append(
                f'<div><img loading="lazy" alt="attention of {escape(record.prompt)}" src="{lit}">'
                f"{escape(told)}</div>"
            )
    return (
        '<h3>Where the concept&rsquo;s word looks</h3><div class="scroll"><div class="strip" '
        f'style="grid-template-columns: auto repeat({len(points)}, auto)">{"".join(cells)}</div></div>'
        "<figcaption>Lit where its tokens draw attention, over all layers and steps; below each, the share "
        "that falls outside the concept.</figcaption>"
    )


def _gates(results: Results, figure: FigureResult) -> str:
    """How open each concept's gate is at each token, point by point."""
    tables = [table for table in results.gates if table.figure == figure.id]
    if not tables:
        return ""
    blocks = []
    for prompt in dict.fromkeys(table.prompt for table in tables):
        same = [table for table in tables if table.prompt == prompt]
        for name in same[0].biases:
            blocks.append(_gate_table(prompt, name, same))
    return f"<details><summary>Gates, token by token</summary>{''.join(blocks)}</details>"


def _gate_table(prompt: str, name: str, tables: Sequence[GateTable]) -> str:
    tokens = tables[0].tokens
    heads = "".join(
        f"<th{' class=own' if token.concept == name else ''}>"
        f"{escape(f'{token.concept}*' if token.concept else token.word)}</th>"
        for token in tokens
    )
    rows = []
    for table in tables:
        cells = "".join(
            f'<td class="gate" style="--g:{token.gate[name]:.3f}" '
            f'title="similarity {token.similarity[name]:.2f}">{token.gate[name]:.2f}</td>'
            for token in table.tokens
        )
        gate = f"bias {table.biases[name]:g}, temperature {table.temperatures[name]:g}"
        rows.append(
            f'<tr><td title="{escape(gate)}">{escape(table.point.replace("@", " at "))}</td>{cells}</tr>'
        )
    return (
        f"<h3 class=as-written>{escape(name)}* in &ldquo;{escape(prompt)}&rdquo;</h3>"
        f'<div class="scroll"><table class="gates"><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _numbers(figure: FigureResult) -> str:
    """The scores of every point, and of every class."""
    shown = [metric for metric in NAMES if any(metric in point.metrics for point in figure.points)]
    heads = "".join(f'<th class="number">{escape(NAMES[metric])}</th>' for metric in shown)
    rows = [(p.label.replace("@", " at "), p.metrics) for p in figure.points]
    if figure.best is not None:
        rows.append(("best H", figure.best.metrics))
    body = "".join(
        f"<tr><td>{escape(label)}</td>"
        + "".join(f'<td class="number">{_measured(metric, told.get(metric))}</td>' for metric in shown)
        + "</tr>"
        for label, told in rows
    )
    return (
        f'<details><summary>Numbers</summary><div class="scroll"><table><thead><tr><th></th>{heads}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>{''.join(_classes(figure, shown))}</details>"
    )


def _classes(figure: FigureResult, shown: Sequence[MetricName]) -> Iterator[str]:
    metric: MetricName | None = next((m for m in ("harmonic", "both", "image") if m in shown), None)
    if metric is None:
        return
    names = list(dict.fromkeys(name for point in figure.points for name in point.classes))
    heads = "".join(f'<th class="number">{escape(name)}</th>' for name in names)
    body = "".join(
        f"<tr><td>{escape(point.label.replace('@', ' at '))}</td>"
        + "".join(
            f'<td class="number">{_told(metric, point.classes[name][metric])}</td>'
            if metric in point.classes.get(name, {})
            else "<td></td>"
            for name in names
        )
        + "</tr>"
        for point in figure.points
    )
    yield (
        f"<h3>{escape(NAMES[metric])}, class by class</h3>"
        f'<div class="scroll"><table><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _measured(metric: MetricName, found: Measured | None) -> str:
    if found is None:
        return ""
    value = _told(metric, found.value)
    if found.low is None or found.high is None:
        return value
    return f"{value}<br><small>{_told(metric, found.low)} to {_told(metric, found.high)}</small>"


def _told(metric: MetricName, value: float, *, signed: bool = False) -> str:
    """A number as people read it, with a true minus sign."""
    sign = "+" if signed else ""
    if metric in SIMILARITIES:
        return f"{value:{sign}.3f}".replace("-", "−")
    return f"{100 * value:{sign}.0f} %".replace("-", "−")


def _footer(results: Results) -> str:
    environment = results.environment
    libraries = ", ".join(f"{name} {number}" for name, number in environment.libraries.items())
    told = (
        f"perf {environment.perf}; {libraries}; {environment.device} ({environment.processor}), "
        f"{environment.dtype}. Base {environment.base_digest}. Covariance {environment.covariance}. "
        "Every number and picture is in results.json."
    )
    return f"<footer>{escape(told)}</footer>"
