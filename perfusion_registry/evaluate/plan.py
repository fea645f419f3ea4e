"""From a suite to its cells: which concepts are built how, what is drawn with them, and how it is judged."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from perfusion_registry.base.reference import EMBEDDED
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.errors import PerfError, at
from perfusion_registry.evaluate.budget import Budget
from perfusion_registry.evaluate.building import BuildOrder
from perfusion_registry.evaluate.cells import Cell as Cell
from perfusion_registry.evaluate.cells import Point as Point
from perfusion_registry.evaluate.cells import cells as cells
from perfusion_registry.evaluate.cells import compared as compared
from perfusion_registry.evaluate.cells import points as points
from perfusion_registry.evaluate.choosing import check_methods, with_choices
from perfusion_registry.evaluate.drawing import DrawnConcept, DrawOrder
from perfusion_registry.evaluate.nearest import NO_NOUNS
from perfusion_registry.evaluate.scoring import Judged, ScoreOrder
from perfusion_registry.evaluate.sources import Source
from perfusion_registry.evaluate.suite import WORDS, Figure, Suite, Variant
from perfusion_registry.methods.table import find_method

if TYPE_CHECKING:
    from perfusion_registry.base import BaseDescription


@dataclass(frozen=True)
class Outline:
    """Everything that a run will do, before anything is built.

    cells: by figure. builds: for each training of each concept under each variant that trains it, by figure,
    variant, concept and training. skipped: figures that cannot be drawn, and why. covariance: its file's
    digest. choices: by figures that search, what came of them; until that is known, the variants that are
    chosen from them stand for what was tried last.
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
    covariance: str
    choices: Mapping[str, Point]

    @property
    def searches(self) -> tuple[str, ...]:
        """The figures that search."""
        return tuple(figure.id for figure in self.figures if figure.kind == "search")

    def only(self, figures: Collection[str]) -> Outline:
        """Some of its figures."""
        return self.of([cell for cell in self.cells if cell.figure in figures])

    def of(self, cells: Sequence[Cell]) -> Outline:
        """Some of its cells, with what they need built."""
        figures = {cell.figure for cell in cells}
        needed = {
            (c.figure, c.point.variant.name, name, c.training): None for c in cells for name in c.subject
        }
        return replace(
            self,
            figures=tuple(figure for figure in self.figures if figure.id in figures),
            cells=tuple(cells),
            builds={key: self.builds[key] for key in needed if key in self.builds},
        )

    def choosing(self, suite: Suite, choices: Mapping[str, Point]) -> Outline:
        """The plan with what searches came to. suite: as it was read."""
        plan = outline(
            suite.model_copy(update={"base": self.suite.base, "bases": self.suite.bases}),
            self.sources,
            self.bases,
            self.covariance,
            figures=[figure.id for figure in self.figures],
            budget=self.budget,
            computing=self.computing,
            judges=self.judges,
            choices=choices,
        )
        return replace(plan, skipped=self.skipped)

    def points(self, figure: str) -> tuple[Point, ...]:
        """The operating points of a figure that are drawn, in their order."""
        return tuple({cell.point.label: cell.point for cell in self.cells if cell.figure == figure}.values())

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
    choices: Mapping[str, Point] | None = None,
) -> Outline:
    """Plan the figures of those ids (default: all), and the searches that they choose from. bases: by their
    name in the suite, "" for its own.

    covariance: the digest of C's file. computing: device and number format. choices: what searches came to.
    Raises PerfError for an unknown figure or method, and when nothing is left to draw.
    """
    budget = budget or Budget()
    check_methods(suite, budget)
    wanted = {suite.figure(identity).id for identity in figures}
    wanted |= {search for identity in wanted for search in suite.figure(identity).searches}
    suite = with_choices(suite, choices or {}, budget)
    asked = [figure for figure in suite.figures if not wanted or figure.id in wanted]
    skipped = {
        figure.id: f"it needs the base {', '.join(sorted(figure.requires - bases.keys()))}; "
        "name its folder with --with-base"
        for figure in asked
        if figure.requires - bases.keys()
    }
    lacking = any(source.nearest is None for source in sources.values())
    for figure in asked:
        if lacking and any(variant.nearest_word for variant in figure.variants):
            skipped[figure.id] = NO_NOUNS
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
    drawn = {cell.figure for cell in planned}
    return Outline(
        suite,
        tuple(figure for figure in chosen if figure.id in drawn),
        tuple(planned),
        sources,
        builds,
        bases,
        skipped,
        budget,
        computing,
        judges,
        covariance,
        choices or {},
    )


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
