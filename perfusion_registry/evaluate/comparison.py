"""Comparisons: one table of all variants with what they cost, and sentences that follow from its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

from perfusion_registry.amounts import count, duration, size
from perfusion_registry.evaluate.metrics import METRICS, difference
from perfusion_registry.evaluate.results import (
    Compared,
    ComparedRow,
    ConceptResult,
    Conclusion,
    Contrast,
    FigureResult,
    spoken,
)
from perfusion_registry.evaluate.suite import Suite

_COSTS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("parameters", "learns fewer numbers", lambda number: f"{number:,.0f}"),
    ("bytes", "has smaller artifacts", lambda number: size(round(number))),
    ("seconds", "is learned sooner", duration),
    ("memory", "takes less memory to learn", lambda number: size(round(number))),
)
"""What a row costs, what is said of the one that costs less, and how its numbers are written."""
_AS_MUCH = 0.9
"""Less than this share of another's cost is told as less."""


def compared(
    suite: Suite, figures: Sequence[FigureResult], concepts: Sequence[ConceptResult], device: str = "cpu"
) -> Compared | None:
    """The comparison of a suite that has one, of the figures that were drawn; None where there is nothing.

    device: the kind that concepts were learned on. On a CPU, which other programs share, seconds are
    those that it computed for a training; on a GPU those of the clock.
    """
    if suite.comparison is None:
        return None
    drawn = {figure.id: figure for figure in figures if figure.points}
    asked = [drawn[name] for name in suite.comparison.figures if name in drawn]
    if not asked:
        return None
    rows = tuple(_rows(suite, asked, concepts, device))
    return Compared(rows=rows, conclusions=tuple(_conclusions(suite, figures, asked, rows, concepts)))


def _rows(
    suite: Suite, figures: Sequence[FigureResult], concepts: Sequence[ConceptResult], device: str
) -> Iterator[ComparedRow]:
    """A row for each point of the first figure."""
    methods = {variant.name: variant.method for variant in suite.figure(figures[0].id).variants}
    for point in figures[0].points:
        built = [c for c in concepts if (c.figure, c.variant) == (figures[0].id, point.variant)]
        costs = [concept.cost for concept in built if concept.cost is not None]
        yield ComparedRow(
            variant=point.label,
            method=methods.get(point.variant, point.variant),
            trainings=len(built),
            parameters=_mean([cost.parameters for cost in costs]),
            bytes=_mean([concept.bytes for concept in built if concept.bytes is not None]),
            seconds=_mean([cost.processor if device == "cpu" else cost.seconds for cost in costs]),
            memory=_mean([cost.memory for cost in costs if cost.memory is not None]),
            metrics={
                f.id: other.metrics for f in figures for other in f.points if other.label == point.label
            },
        )


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _conclusions(
    suite: Suite,
    figures: Sequence[FigureResult],
    asked: Sequence[FigureResult],
    rows: Sequence[ComparedRow],
    concepts: Sequence[ConceptResult],
) -> Iterator[Conclusion]:
    """What speaks against those that the others are compared with first; what nothing decides after that."""
    contrasts = [contrast for figure in asked for contrast in figure.contrasts]
    pairs = list(dict.fromkeys((contrast.variant, contrast.against) for contrast in contrasts))
    by_variant = {row.variant: row for row in rows}
    for rival, own in pairs:
        if better := _told(asked, rival, own, "better"):
            yield Conclusion(kind="against", text=f"{rival} is better than {own}: {better}.")
    for rival, own in pairs:
        if cheaper := _cheaper(by_variant.get(rival), by_variant.get(own)):
            yield Conclusion(kind="against", text=f"{rival} {cheaper}, beside {own}.")
    verdicts = {contrast.verdict for contrast in contrasts}
    if verdicts - {"too few"} and "better" not in verdicts:
        text = "Of no rival do these pictures tell that it is better in anything that was measured."
        yield Conclusion(kind="against", text=text)
    for rival, own in pairs:
        if same := _named(asked, rival, own, "not told apart"):
            yield Conclusion(kind="open", text=f"{rival} and {own} are not told apart: {same}.")
        if few := _named(asked, rival, own, "too few"):
            told = {c.verdict for c in contrasts if (c.variant, c.against) == (rival, own)} - {"too few"}
            by = f" by {few}" if told else ""
            text = f"Nothing can be said of {rival} and {own}{by}: there are too few prompts or trainings."
            yield Conclusion(kind="open", text=text)
    for rival, own in pairs:
        if worse := _told(asked, rival, own, "worse"):
            yield Conclusion(kind="for", text=f"{rival} is worse than {own}: {worse}.")
    for rival, own in pairs:
        if cheaper := _cheaper(by_variant.get(own), by_variant.get(rival)):
            yield Conclusion(kind="for", text=f"{own} {cheaper}, beside {rival}.")
    yield from _limits(suite, figures, contrasts, rows, concepts)


def _told(figures: Sequence[FigureResult], rival: str, own: str, verdict: str) -> str:
    """The metrics in which a rival is better, or worse, with by how much."""
    return "; ".join(
        f"{_metric(figures, figure, contrast)} {difference(contrast.metric, contrast.difference)}"
        for figure, contrast in _between(figures, rival, own, verdict)
    )


def _named(figures: Sequence[FigureResult], rival: str, own: str, verdict: str) -> str:
    return ", ".join(
        _metric(figures, figure, contrast) for figure, contrast in _between(figures, rival, own, verdict)
    )


def _between(
    figures: Sequence[FigureResult], rival: str, own: str, verdict: str
) -> Iterator[tuple[FigureResult, Contrast]]:
    for figure in figures:
        for contrast in figure.contrasts:
            if (contrast.variant, contrast.against, contrast.verdict) == (rival, own, verdict):
                yield figure, contrast


def _metric(figures: Sequence[FigureResult], figure: FigureResult, contrast: Contrast) -> str:
    """A metric by its title, with its figure's where that is not the first."""
    where = "" if figure is figures[0] else f" ({figure.title.lower()})"
    return f"{METRICS[contrast.metric].title}{where}"


def _cheaper(one: ComparedRow | None, other: ComparedRow | None) -> str:
    """What costs less of one than of another."""
    if one is None or other is None:
        return ""
    said = []
    for field, words, written in _COSTS:
        mine, theirs = getattr(one, field), getattr(other, field)
        if mine is not None and theirs is not None and mine < _AS_MUCH * theirs:
            said.append(f"{words} ({written(mine)} against {written(theirs)})")
    return ", ".join(said)


def _limits(
    suite: Suite,
    figures: Sequence[FigureResult],
    contrasts: Sequence[Contrast],
    rows: Sequence[ComparedRow],
    concepts: Sequence[ConceptResult],
) -> Iterator[Conclusion]:
    told = [contrast for contrast in contrasts if contrast.verdict != "too few"]
    texts = []
    if told:
        by_chance = count(max(1, round(len(told) / 20)), "difference")
        texts.append(
            f"Of {count(len(told), 'difference')}, each judged by itself, about {by_chance} would be told "
            "apart by chance alone."
        )
    trained = max((concept.training for concept in concepts), default=0) + 1
    names = len({concept.name for row in rows for concept in concepts if concept.variant == row.variant})
    texts.append(
        f"{count(names, 'concept')} with {count(trained, 'training')} each: other concepts may order the "
        "methods otherwise, and no interval has that in it."
    )
    if any(row.seconds is not None for row in rows):
        texts.append(
            "Costs have no intervals: seconds are those of one machine, on a CPU of its processors' time; "
            "memory is that of the process, base included."
        )
    for figure in figures:
        if figure.chosen is not None:
            metric = METRICS[suite.figure(figure.id).choose].title
            tried = count(sum(point.label != "supercategory" for point in figure.points), "setting")
            texts.append(f"{figure.title}: of {tried} {spoken(figure.chosen)}, by {metric}.")
    for text in texts:
        yield Conclusion(kind="limits", text=text)
