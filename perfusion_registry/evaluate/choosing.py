"""Searches: the settings that a method is given before it is compared, chosen on concepts that are not
scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.budget import Budget
from perfusion_registry.evaluate.cells import Point, points_within
from perfusion_registry.evaluate.results import FigureResult
from perfusion_registry.evaluate.suite import Suite, Variant
from perfusion_registry.suggestions import did_you_mean

_OVER = ("training", "images", "supercategory", "nearest_word", "pairs", "base")
"""What a variant says of itself and not of its training's or its method's options."""


def choices(
    suite: Suite, found: Sequence[FigureResult], points: Mapping[str, Sequence[Point]]
) -> dict[str, Point]:
    """Of each figure that searches, the point with the most of what it chooses by, the first of equals.

    found: their results; points: what they have tried, by figure. Raises PerfError where nothing tells.
    """
    chosen = {}
    for result in found:
        metric = suite.figure(result.id).choose
        scores = {
            point.label: point.metrics[metric].value for point in result.points if metric in point.metrics
        }
        tried = [p for p in points[result.id] if p.variant.learned_by and p.label in scores]
        if not tried:
            raise PerfError(
                f"the search {result.id!r} chose nothing: none of its pictures has a {metric}",
                where=suite.name,
                hint="let it choose by another metric, or draw more prompts",
            )
        chosen[result.id] = max(tried, key=lambda point: scores[point.label])
    return chosen


def check_methods(suite: Suite, budget: Budget) -> None:
    """Refuse a budget of methods that the suite does not have, by name."""
    known = {v.learned_by: None for figure in suite.figures for v in figure.variants if v.learned_by}
    for name in budget.methods:
        if name not in known:
            hint = did_you_mean(name, known, f"its methods are {', '.join(known)}")
            raise PerfError(f"the suite {suite.name!r} has no method {name!r}", hint=hint)


def with_choices(suite: Suite, choices: Mapping[str, Point], budget: Budget) -> Suite:
    """The suite with what searches came to in the place of the variants that are chosen from them."""
    figures = []
    for figure in suite.figures:
        variants = []
        for variant in figure.variants:
            if variant.chosen_from is not None:
                tried = points_within(suite.figure(variant.chosen_from), budget)
                point = choices.get(variant.chosen_from) or next(
                    (point for point in reversed(tried) if point.variant.learned_by), None
                )
                variant = variant if point is None else taken(variant, point)
            variants.append(variant)
        figures.append(figure.model_copy(update={"variants": tuple(variants)}))
    return suite.model_copy(update={"figures": tuple(figures)})


def taken(variant: Variant, point: Point) -> Variant:
    """A variant as a point that a search chose, with what it says itself over that."""
    said = variant.train.model_dump(exclude_none=True)
    own = {field: getattr(variant, field) for field in _OVER if field in variant.model_fields_set}
    update = {
        "name": variant.name,
        "against": variant.against,
        "chosen_from": variant.chosen_from,
        "train": point.variant.train.model_copy(update=said),
        "render": {field: (value,) for field, value in point.settings.items()} | variant.axes,
        "bias": (),
        "temperature": (),
        "key_lock": None,
        "residual": None,
    }
    return point.variant.model_copy(update=update | own)
