"""From a suite to its cells: which concepts are built how, what is drawn with them, and how it is judged."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfusion_registry.base.reference import EMBEDDED
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.errors import PerfError, at
from perfusion_registry.evaluate.budget import Budget, by_turns, spread
from perfusion_registry.evaluate.building import BuildOrder
from perfusion_registry.evaluate.drawing import DrawnConcept, DrawOrder
from perfusion_registry.evaluate.metrics import MetricName
from perfusion_registry.evaluate.scoring import Judged, ScoreOrder
from perfusion_registry.evaluate.sources import Source
from perfusion_registry.evaluate.suite import WORDS, Figure, PromptGroup, Suite, SuiteConcept, Variant
from perfusion_registry.methods.settings import Value
from perfusion_registry.methods.table import find_method

if TYPE_CHECKING:
    from perfusion_registry.base import BaseDescription

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


@dataclass(frozen=True)
class Outline:
    """Everything that a run will do, before anything is built.

    cells: by figure. builds: for each training of each concept under each variant that trains it, by figure,
    variant, concept and training. skipped: figures that cannot be drawn, and why.
    """

    suite: Suite
    figures: tuple[Figure, ...]
    cells: tuple[Cell, ...]
    sources: Mapping[str, Source]
    builds: Mapping[tuple[str, str, str, int], BuildOrder]
    bases: Mapping[str, BaseDescription]
    skipped: Mapping[str, str]
    budget: Budget
    computing: tuple[str, str]
    judges: str

    @property
    def orders(self) -> tuple[BuildOrder, ...]:
        """The builds, each once."""
        return tuple({order.digest: order for order in self.builds.values()}.values())

    def drawn(self, cell: Cell, built: Mapping[str, str]) -> DrawOrder:
        """The pictures of a cell. built: the artifact's SHA-256 for the digest of each build order."""
        variant, settings = cell.point.variant, self.suite.render
        words = [self._source(name, variant).supercategory for name in cell.subject]
        concepts: tuple[DrawnConcept, ...] = ()
        if variant.method != WORDS:
            words = [f"{name}*" for name in cell.subject]
            concepts = tuple(
                DrawnConcept(
                    name,
                    built[self.builds[cell.figure, variant.name, name, cell.training].digest],
                    variant.learned_by,
                    tuple(cell.point.settings.items()),
                )
                for name in cell.subject
            )
        steps = settings.steps
        if self.budget.steps is not None:
            steps = min(self.budget.steps, steps or self._card_steps(variant))
        base = self.bases[variant.base or ""]
        guidance = self.suite.figure(cell.figure).guidance
        return DrawOrder(
            prompt=filled(cell.template, words),
            concepts=concepts,
            method=variant.method,
            drawing=variant.drawing,
            seeds=cell.seeds,
            base=self._reference(variant),
            base_digest=base.digest,
            steps=steps,
            guidance=settings.guidance if guidance is None else guidance,
            scheduler=settings.scheduler,
            computing=self.computing,
            attention="leakage" in cell.metrics,
        )

    def scored(self, cell: Cell, order: DrawOrder) -> ScoreOrder:
        """How the pictures of a cell are judged."""
        variant = cell.point.variant
        own = [self.sources[name] for name in cell.subject]
        plain = [source.supercategory for source in own]
        judged = tuple(
            Judged(source.name, source.supercategory, source.images, source.cast, source.world)
            for source in own
        )
        return ScoreOrder(
            keys=tuple(order.key(seed) for seed in cell.seeds),
            text=omitted(cell.template),
            spoken=parse_prompt(filled(cell.template, plain)).spoken({}),
            judged=judged,
            metrics=cell.metrics - {"text_normalised", "harmonic"},
            base=self._reference(variant),
            judges=self.judges,
        )

    def _source(self, name: str, variant: Variant) -> Source:
        return self.sources[name].under(variant, self.suite)

    def _reference(self, variant: Variant) -> str:
        return self.suite.bases[variant.base] if variant.base else self.suite.base or EMBEDDED

    def _card_steps(self, variant: Variant) -> int:
        from perfusion_registry.render.request import PAPER_STEPS

        return int(self.bases[variant.base or ""].card.render.get("steps") or PAPER_STEPS)


def _check_settings(order: BuildOrder, point: Point, where: str) -> None:
    """Refuse, before anything is built, what a point sets for a concept that cannot be drawn so."""
    name, method = order.source.name, find_method(order.source.recipe.concept.method)
    place = f"{where}, {point.label}"
    with at(place):
        own = method.own_options(order.train, order.render, {})
        draw = method.set_options(name, own, [point.settings])
    mistake = method.options_mistake(name, order.train, draw)
    if mistake is None and point.variant.drawing is not None:
        mistake = method.drawing_mistake(point.variant.drawing, draw)
    if mistake is not None:
        raise PerfError(mistake.what, where=place, hint=mistake.hint)


def filled(template: str, words: Sequence[str]) -> str:
    """A template with its subjects' words in place."""
    text = template.replace("{}", words[0])
    for number, word in enumerate(words):
        text = text.replace(f"{{{number}}}", word)
    return text


def omitted(template: str) -> str:
    """A template without subjects and weights, as text similarity reads it ("A is dressed like a wizard")."""
    prompt = parse_prompt(filled(template, ["subject*", "other*"]))
    return " ".join(prompt.spoken({"subject": " ", "other": " "}).split())


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
    count = min(figure.seeds or suite.render.seeds, budget.seeds or suite.render.seeds)
    always: tuple[MetricName, ...] = ("text", "image")
    metrics = frozenset((*figure.metrics, *always))
    planned = []
    for variant in compared(figure):
        trained = range(trainings(figure, budget) if variant.learned_by else 1)
        for point, group in itertools.product(points(variant), suite.prompts):
            if figure.prompts and group.name not in figure.prompts:
                continue
            subjects = _subjects(group, concepts, names, budget)
            templates = spread(group.templates, budget.prompts)
            for subject, training, template in itertools.product(subjects, trained, templates):
                planned.append(
                    Cell(figure.id, point, subject, group, template, tuple(range(count)), metrics, training)
                )
    return planned


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


def outline(
    suite: Suite,
    sources: Mapping[str, Source],
    bases: Mapping[str, BaseDescription],
    covariance: str,
    *,
    figures: Sequence[str] = (),
    budget: Budget | None = None,
    computing: tuple[str, str],
    judges: str,
) -> Outline:
    """Plan the figures of those ids (default: all). bases: by their name in the suite, "" for its own.

    covariance: the digest of C's file. computing: device and number format. Raises PerfError for an unknown
    figure, and when nothing is left to draw.
    """
    budget = budget or Budget()
    wanted = {suite.figure(identity).id for identity in figures}
    asked = [figure for figure in suite.figures if not wanted or figure.id in wanted]
    skipped = {
        figure.id: f"it needs the base {', '.join(sorted(figure.requires - bases.keys()))}; "
        "name its folder with --with-base"
        for figure in asked
        if figure.requires - bases.keys()
    }
    chosen = tuple(figure for figure in asked if figure.id not in skipped)
    planned = [cell for figure in chosen for cell in cells(suite, figure, budget)]
    if not planned:
        reasons = "; ".join(f"figure {name}: {why}" for name, why in skipped.items())
        raise PerfError(
            f"there is nothing to draw: {reasons or 'no prompt fits the concepts of the figures'}",
            where=suite.name,
        )
    builds = {}
    for cell in planned:
        variant = cell.point.variant
        if variant.method != WORDS:
            for name in cell.subject:
                key = (cell.figure, variant.name, name, cell.training)
                if key not in builds:
                    source = sources[name].under(variant, suite)
                    builds[key] = BuildOrder.of(
                        source,
                        variant.other_training,
                        bases[""],
                        covariance,
                        budget.train_steps,
                        cell.training,
                    )
                    for point in points(variant):
                        _check_settings(builds[key], point, f"{suite.name}, figure {cell.figure}")
    return Outline(suite, chosen, tuple(planned), sources, builds, bases, skipped, budget, computing, judges)
