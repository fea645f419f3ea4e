"""What became of the claims: on one table for all figures, and in sentences for each."""

from __future__ import annotations

from dataclasses import dataclass

from perfusion_registry.evaluate.metrics import METRICS, difference, told
from perfusion_registry.evaluate.results import ClaimResult, Results, spoken

VERDICTS = {
    "holds": "Holds",
    "fails": "Fails",
    "open": "Open",
    "unmeasured": "No data",
}
_MIDDLE, _REACH = 88.0, 84.0  # of a drawn interval, in its 176 units


@dataclass(frozen=True)
class Interval:
    """A difference with its ends, in the 176 units of a drawing that has zero in the middle."""

    low: float
    value: float
    high: float


@dataclass(frozen=True)
class ClaimRow:
    """A claim on the table of all. figure: its id. difference, range: as people read them."""

    figure: str
    claim: ClaimResult
    difference: str
    range: str
    interval: Interval | None


def claim_rows(results: Results) -> tuple[ClaimRow, ...]:
    """Every claim with its verdict and interval."""
    rows = []
    for figure in results.figures:
        for claim in figure.claims:
            value, _, between = difference(claim.metric, claim.difference).partition(" (")
            rows.append(ClaimRow(figure.id, claim, value, between.removesuffix(")"), _interval(claim)))
    return tuple(rows)


def sentence(claim: ClaimResult) -> str:
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
    return f"{title}: {better} against {than}; {wanted}difference {by}. {ending}"


def _interval(claim: ClaimResult) -> Interval | None:
    """The difference as it is drawn."""
    measured = claim.difference
    if measured is None or measured.low is None or measured.high is None:
        return None
    reach = max(abs(measured.low), abs(measured.high), abs(measured.value), 1e-6) * 1.1
    low, value, high = (_MIDDLE + _REACH * v / reach for v in (measured.low, measured.value, measured.high))
    return Interval(low, value, high)
