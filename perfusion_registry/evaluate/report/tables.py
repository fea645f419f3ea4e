"""Tables: how open each gate is at each token, and the numbers behind the plots."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from perfusion_registry.evaluate.metrics import METRICS, MetricName, told
from perfusion_registry.evaluate.results import FigureResult, GateTable, Measured, Results, spoken


def gates(results: Results, figure: FigureResult) -> str:
    """How open each concept's gate is at each token, point by point."""
    tables = [table for table in results.gates if table.figure == figure.id]
    if not tables:
        return ""
    blocks = []
    for prompt in dict.fromkeys(table.prompt for table in tables):
        same = [table for table in tables if table.prompt == prompt]
        blocks += [_gate_table(prompt, name, same) for name in same[0].biases]
    return (
        f"<details><summary>Gates, token by token</summary>{''.join(blocks)}"
        "<figcaption>1: the token is the concept. 0: the edit leaves it alone. Point at a number for the "
        "token's similarity to the concept.</figcaption></details>"
    )


def _gate_table(prompt: str, name: str, tables: Sequence[GateTable]) -> str:
    heads = "".join(
        f'<th scope="col"{" class=own" if token.concept == name else ""}>'
        f"{escape(f'{token.concept}*' if token.concept else token.word)}</th>"
        for token in tables[0].tokens
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
            f'<tr><th scope="row">{escape(spoken(table.point))}<small>{escape(gate)}</small></th>{cells}</tr>'
        )
    return (
        f"<h3 class=as-written>{escape(name)}* in &ldquo;{escape(prompt)}&rdquo;</h3>"
        f'<div class="scroll wide"><table class="gates"><thead><tr><td></td>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def numbers(figure: FigureResult) -> str:
    """The scores of every point, and of every class."""
    shown = [metric for metric in METRICS if any(metric in point.metrics for point in figure.points)]
    rows = [(spoken(p.label), [_measured(m, p.metrics.get(m)) for m in shown]) for p in figure.points]
    if figure.best is not None:
        rows.append(("best H", [_measured(m, figure.best.metrics.get(m)) for m in shown]))
    scores = _table([METRICS[metric].title for metric in shown], rows)
    return f"<details><summary>Numbers</summary>{scores}{_classes(figure, shown)}</details>"


def _classes(figure: FigureResult, shown: Sequence[MetricName]) -> str:
    """One metric, class by class: the harmonic mean where there is one."""
    chosen: tuple[MetricName, ...] = ("harmonic", "both", "image")
    metric = next((m for m in chosen if m in shown), None)
    if metric is None:
        return ""
    names = list(dict.fromkeys(name for point in figure.points for name in point.classes))
    rows = []
    for point in figure.points:
        values = [point.classes.get(name, {}).get(metric) for name in names]
        rows.append((spoken(point.label), ["" if v is None else told(metric, v) for v in values]))
    return f"<h3>{escape(METRICS[metric].title)}, class by class</h3>{_table(names, rows)}"


def _table(heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Numbers below their heads; the cells are markup."""
    top = "".join(f'<th scope="col" class="number">{escape(head)}</th>' for head in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(label)}</th>'
        + "".join(f'<td class="number">{cell}</td>' for cell in cells)
        + "</tr>"
        for label, cells in rows
    )
    return (
        f'<div class="scroll wide"><table><thead><tr><td></td>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _measured(metric: MetricName, estimate: Measured | None) -> str:
    if estimate is None:
        return ""
    value = told(metric, estimate.value)
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value}<br><small>{told(metric, estimate.low)} to {told(metric, estimate.high)}</small>"
