"""The cells of a suite: each prompt of each subject at each operating point, within a budget."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perfusion_registry.evaluate.budget import Budget, by_turns, spread
from perfusion_registry.evaluate.metrics import MetricName
from perfusion_registry.evaluate.suite import WORDS, Figure, PromptGroup, Suite, SuiteConcept, Variant
from perfusion_registry.methods.settings import Value

BASELINE = Variant(name=WORDS, method=WORDS)
"""The words alone, drawn by the untouched base: what text similarity is normalised by."""


@dataclass(frozen=True)
class Point:
    """One operating point of a variant. settings: what it sets for each concept, by field; the rest is as
    the concept has it."""

    variant: Variant
    label: str
    settings: Mapping[str, Value]

    def number(self, field: str) -> float | None:
        """The number that it sets of a field; None where it sets none."""
        value = self.settings.get(field)
        return None if value is None else float(value)


@dataclass(frozen=True)
class Cell:
    """One prompt of one subject under one point of a figure; one picture for each seed. training: which one
    of its concepts, from 0 on."""

    figure: str
    point: Point
    subject: tuple[str, ...]
    group: PromptGroup
    template: str
    seeds: tuple[int, ...]
    metrics: frozenset[MetricName]
    training: int = 0

    @property
    def subject_label(self) -> str:
        """The class that balanced scores count it under."""
        return "+".join(self.subject)


def points(variant: Variant) -> tuple[Point, ...]:
    """Every operating point of a variant, biases first."""
    return tuple(Point(variant, label, settings) for label, settings in variant.points().items())


def compared(figure: Figure) -> tuple[Variant, ...]:
    """The variants of a figure and, where its metrics need it, the supercategory baseline."""
    has_words = any(v.method == WORDS and v.base is None for v in figure.variants)
    return (*figure.variants, BASELINE) if figure.normalised and not has_words else figure.variants


def cells(suite: Suite, figure: Figure, budget: Budget) -> list[Cell]:
    """The cells of one figure within a budget."""
    chosen = [c for c in suite.concepts if not figure.concepts or c.name in figure.concepts]
    concepts = by_turns(chosen, budget.concepts)
    names = {concept.name for concept in chosen}
    most = figure.seeds or suite.render.seeds
    count = min(most, budget.seeds or most)
    always: tuple[MetricName, ...] = ("text", "image")
    metrics = frozenset((*figure.metrics, *always))
    planned = []
    groups = [group for group in suite.prompts if not figure.prompts or group.name in figure.prompts]
    for point, group in itertools.product(points_within(figure, budget), groups):
        trained = range(trainings(figure, budget) if point.variant.learned_by else 1)
        subjects = _subjects(group, concepts, names, budget)
        templates = spread(group.templates, budget.prompts)
        for subject, training, template in itertools.product(subjects, trained, templates):
            planned.append(
                Cell(figure.id, point, subject, group, template, tuple(range(count)), metrics, training)
            )
    return planned


def points_within(figure: Figure, budget: Budget) -> list[Point]:
    """The operating points of a figure within a budget; none where none of its methods is wanted."""
    wanted = [
        variant
        for variant in compared(figure)
        if not variant.learned_by or not budget.methods or variant.learned_by in budget.methods
    ]
    learned = [point for variant in wanted if variant.learned_by for point in points(variant)]
    if not learned and any(variant.learned_by for variant in figure.variants):
        return []
    if figure.kind == "search":
        learned = list(spread(learned, budget.settings))
    labels = {point.label for point in learned}
    every = [point for variant in wanted for point in points(variant)]
    return [point for point in every if not point.variant.learned_by or point.label in labels]


def trainings(figure: Figure, budget: Budget) -> int:
    """How often each concept of a figure is trained."""
    return min(figure.trainings, budget.trainings or figure.trainings)


def _subjects(
    group: PromptGroup, concepts: Sequence[SuiteConcept], names: set[str], budget: Budget
) -> list[tuple[str, ...]]:
    if group.pairs:
        pairs = [pair for pair in group.pairs if names.issuperset(pair)]
        return list(spread(pairs, budget.concepts))
    return [
        (concept.name,) for concept in concepts if not group.for_groups or concept.group in group.for_groups
    ]
