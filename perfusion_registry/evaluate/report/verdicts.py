"""What became of the claims: on one table for all figures, and in sentences for each."""

from __future__ import annotations

from html import escape

from perfusion_registry.evaluate.metrics import METRICS, difference, told
from perfusion_registry.evaluate.results import ClaimResult, FigureResult, Results, spoken

VERDICTS = {
    "holds": "Holds",
    "fails": "Fails",
    "open": "Open",
    "unmeasured": "No data",
}


def summary(results: Results) -> str:
    """Every claim with its verdict and interval, on one table."""
    claims = [(figure, claim) for figure in results.figures for claim in figure.claims]
    if not claims:
        return ""
    rows = [
        f'<tr><td class="where"><a href="#figure-{escape(figure.id)}">{escape(figure.id)}</a></td>'
        f'<td class="claim">{escape(claim.text)}</td><td>{_chip(claim)}</td>'
        f'<td class="interval">{_forest(claim)}</td>'
        f'<td class="number">{_difference(claim)}</td></tr>'
        for figure, claim in claims
    ]
    counts = [
        f"{sum(c.verdict == verdict for _, c in claims)} {verb}"
        for verdict, verb in (("holds", "hold"), ("fails", "fail"), ("open", "stay open"))
    ]
    return (
        "<section><h2>What holds here</h2>"
        f"<p>Of {len(claims)} orderings that the paper claims or the project set itself, "
        f"{counts[0]}, {counts[1]} and {counts[2]}. A claim holds when the 95 % interval of the difference, "
        "over the same prompts and seeds, lies above zero; it fails when it lies below; else the pictures "
        "here do not decide it. Each is judged by itself: of twenty without a difference in truth, one would "
        "be decided by chance.</p>"
        '<div class="scroll"><table class="claims"><thead><tr><th scope="col">Figure</th>'
        '<th scope="col">Claim</th><th scope="col">Verdict</th>'
        '<th scope="col" colspan="2">Difference, with its interval</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def verdicts(figure: FigureResult) -> str:
    """A figure's claims, each with what was measured."""
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
    title = METRICS[claim.metric].title.capitalize()
    better = f"{told(claim.metric, claim.better_value)} ({spoken(claim.better)})"
    than = told(claim.metric, claim.than_value) + (f" ({spoken(claim.than)})" if claim.than else " asked for")
    wanted = "less is better; " if claim.less else ""
    ending = {
        "holds": "It holds here.",
        "fails": "Here it is the other way round." if claim.than else "It is not reached here.",
        "open": "The interval holds zero, so this run does not decide it.",
    }.get(claim.verdict, "")
    by = difference(claim.metric, claim.difference)
    return escape(f"{title}: {better} against {than}; {wanted}difference {by}. {ending}")


def _chip(claim: ClaimResult) -> str:
    return f'<span class="chip {claim.verdict}">{VERDICTS[claim.verdict]}</span>'


def _difference(claim: ClaimResult) -> str:
    """The difference over its interval, for a cell."""
    value, _, interval = difference(claim.metric, claim.difference).partition(" (")
    return f"{value}<br><small>{interval.removesuffix(')')}</small>" if interval else value


def _forest(claim: ClaimResult) -> str:
    """The difference as a dot with its interval, zero in the middle."""
    difference = claim.difference
    if difference is None or difference.low is None or difference.high is None:
        return ""
    reach = max(abs(difference.low), abs(difference.high), abs(difference.value), 1e-6) * 1.1
    low, high, value = (88 + 84 * v / reach for v in (difference.low, difference.high, difference.value))
    return (
        f'<svg class="forest {claim.verdict}" viewBox="0 0 176 20" aria-hidden="true">'
        '<line x1="88" x2="88" y1="1" y2="19" stroke="var(--faint)"/>'
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="10" y2="10" stroke="currentColor" stroke-width="2"/>'
        f'<circle cx="{value:.1f}" cy="10" r="4" fill="currentColor"/></svg>'
    )
