"""Suites: what is evaluated, as data. Concepts, prompts by group, figures with their variants and claims."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AliasChoices, Field, SerializeAsAny, WrapValidator, model_validator

from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.metrics import MetricName
from perfusion_registry.evaluate.variant import WORDS as WORDS
from perfusion_registry.evaluate.variant import Count, Key, TrainSection, train_of_any, tried
from perfusion_registry.evaluate.variant import Variant as Variant
from perfusion_registry.methods.checking import table_of
from perfusion_registry.methods.files import train_section
from perfusion_registry.recipe.document import read_model
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name
from perfusion_registry.recipe.options import Guidance, PairPrompts, SchedulerName
from perfusion_registry.suggestions import did_you_mean

SHIPPED = Path(__file__).parent / "suites"
"""The folder of the suites that come with the package."""

Text = Annotated[str, Field(max_length=4000)]


def _template(text: str) -> str:
    if text.count("{}") != 1 and not ("{0}" in text and "{1}" in text and "{}" not in text):
        raise ValueError(
            f"`{text}` needs `{{}}` once, where the concept goes, or `{{0}}` and `{{1}}` for two"
        )
    return text


Template = Annotated[str, AfterValidator(_template), Field(max_length=400)]


class SuiteConcept(FileModel):
    """A concept of the suite: one of the cast of its base's drawn world, or a recipe beside the suite's file.

    cast: whose reference images are learned from; with a recipe, who of the cast its images show, so that
    the drawn world's metrics know.
    """

    name: Name
    group: Key
    cast: str | None = None
    recipe: str | None = None

    @model_validator(mode="after")
    def _a_source(self) -> SuiteConcept:
        if self.cast is None and self.recipe is None:
            raise ValueError(f"`{self.name}` needs `cast` or `recipe`")
        return self


class PromptGroup(FileModel):
    """Prompts that belong together.

    for_groups: the groups of concepts that they are for; none means all. pairs: for prompts of two concepts,
    which two. shape_preserving: image similarity is measured on these (Section 5).
    """

    name: Key
    for_groups: tuple[Key, ...] = ()
    pairs: tuple[tuple[Name, Name], ...] = ()
    shape_preserving: bool = False
    templates: Annotated[tuple[Template, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _pairs_and_places(self) -> PromptGroup:
        for template in self.templates:
            if ("{}" in template) == bool(self.pairs):
                raise ValueError(
                    f"`{template}`: prompts with `{{0}}` and `{{1}}` go with `pairs`, others not"
                )
        return self


class SuitePairs(FileModel):
    """Prompts that name another thing beside the concept (see `TrainOptions`), for groups of concepts."""

    for_groups: tuple[Key, ...]
    templates: PairPrompts


class Claim(FileModel):
    """An ordering that the paper claims: `better` has more (or, with `less`, less) of `metric` than `than`.

    better, than: names of variants, or labels of single points such as `local@0.55`; of a whole variant, the
    mean over its points counts. at_least: a number in the place of `than`.
    """

    text: Text
    metric: MetricName
    better: Annotated[str, Field(max_length=120)]
    than: Annotated[str, Field(max_length=120)] | None = None
    at_least: Annotated[float, Field(ge=-1, le=2)] | None = None
    less: bool = False

    @model_validator(mode="after")
    def _one_measure(self) -> Claim:
        if (self.than is None) == (self.at_least is None):
            raise ValueError("a claim needs either `than` or `at_least`")
        return self


FigureKind = Literal["plane", "strip", "bars", "training", "classes", "search"]


class Figure(FileModel):
    """One figure of the paper: which variants on which concepts and prompts, and how to show them.

    kind: `plane` shows image against text similarity, `strip` pictures side by side, `bars` the rates of
    the exact metrics, `training` a plane whose points are training steps, `classes` a plane with a point
    for each class, `search` a plane of the settings that are tried, of which variants of other figures
    take the one with the most of `choose`. best: also choose, for each concept, the point of the greatest
    harmonic mean among those that take the same artifact as the first variant. guidance: instead of the
    suite's. trainings: each concept is trained so many times, from other seeds, and their spread is in
    the intervals; of one, intervals are those of its pictures alone.
    """

    id: Key
    title: Text
    about: Text = ""
    kind: FigureKind = "plane"
    choose: Annotated[MetricName, Field(exclude_if=lambda metric: metric == "harmonic")] = "harmonic"
    concepts: tuple[Name, ...] = ()
    prompts: tuple[Key, ...] = ()
    metrics: tuple[MetricName, ...] = ("image", "text", "text_normalised", "harmonic")
    seeds: Count | None = None
    trainings: Annotated[Count, Field(exclude_if=lambda count: count == 1)] = 1
    guidance: Guidance | None = None
    variants: Annotated[tuple[Variant, ...], Field(min_length=1), AfterValidator(tried)]
    claims: tuple[Claim, ...] = ()
    best: bool = False

    @model_validator(mode="after")
    def _chooses_by_what_it_measures(self) -> Figure:
        if self.kind == "search" and self.choose not in (*self.metrics, "text", "image"):
            raise ValueError(f"figure {self.id} chooses by `{self.choose}`, which is none of its metrics")
        if self.choose == "leakage":
            raise ValueError(f"figure {self.id} chooses by the most `leakage`, of which less is better")
        return self

    @property
    def searches(self) -> set[str]:
        """The figures whose best points its variants are."""
        return {variant.chosen_from for variant in self.variants if variant.chosen_from is not None}

    @property
    def normalised(self) -> bool:
        """Whether its metrics need the supercategory's own pictures, which then are drawn as well."""
        return bool({"text_normalised", "harmonic"} & set(self.metrics))

    @property
    def requires(self) -> set[str]:
        """The bases, by their names in the suite, that its variants render on."""
        return {variant.base for variant in self.variants if variant.base is not None}


class Comparison(FileModel):
    """A table of all variants, one in each row, with what they cost, and conclusions from their differences.

    figures: whose metrics stand in a row; the variants are those of the first, and are called the same in
    all.
    """

    figures: Annotated[tuple[Key, ...], Field(min_length=1)]


class SuiteRender(FileModel):
    """How pictures are drawn; what is left out comes from the base's card, else from the paper.

    batch: so many at once at most, which changes no picture but by rounding.
    """

    seeds: Count = 8
    steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    guidance: Guidance | None = None
    scheduler: SchedulerName | None = None
    batch: Annotated[int, Field(ge=1, le=256)] = 8


class Bootstrap(FileModel):
    """How intervals are made.

    over: `prompts` keeps the concepts, as the paper's are the same for every method, and resamples each
    concept's prompts and, within a prompt, its pictures; `concepts` resamples the concepts too.
    """

    resamples: Annotated[int, Field(ge=100, le=100_000)] = 2000
    over: Literal["prompts", "concepts"] = "prompts"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class Suite(FileModel):
    """A suite file.

    base: what its concepts are for; None is the project's, and outside of a project the embedded one. clip: a
    folder with a CLIP model that judges, for a base that comes without one. bases: further bases by the names
    that variants use; "" is a slot to be filled. train: over the base's card, and under the recipes and
    variants; a variant takes of it what its method has. pairs: for the variants that ask for them.
    """

    schema_version: Literal[1] = 1
    name: Key
    title: Text
    about: Text = ""
    base: str | None = None
    covariance: str | None = None
    clip: str | None = None
    dino: str | None = None
    bases: dict[Key, str] = Field(default_factory=dict)
    train: Annotated[SerializeAsAny[TrainSection], WrapValidator(train_of_any)] = TrainSection()
    pairs: Annotated[SuitePairs | None, Field(validation_alias=AliasChoices("pairs", "company"))] = None
    render: SuiteRender = SuiteRender()
    bootstrap: Bootstrap = Bootstrap()
    concepts: Annotated[tuple[SuiteConcept, ...], Field(min_length=1)]
    prompts: Annotated[tuple[PromptGroup, ...], Field(min_length=1)]
    figures: Annotated[tuple[Figure, ...], Field(min_length=1)]
    comparison: Annotated[Comparison | None, Field(exclude_if=lambda table: table is None)] = None

    @model_validator(mode="after")
    def _names_are_known(self) -> Suite:
        concepts = _unique("concept", [concept.name for concept in self.concepts])
        groups = _unique("prompt group", [group.name for group in self.prompts])
        _unique("figure", [figure.id for figure in self.figures])
        kinds = {concept.group for concept in self.concepts}
        searches = {figure.id: figure for figure in self.figures if figure.kind == "search"}
        if self.comparison is not None:
            known = {figure.id for figure in self.figures}
            _known("figure", self.comparison.figures, known, "comparison")
        if self.pairs is not None:
            _known("group of concepts", self.pairs.for_groups, kinds, "pairs")
        for prompts in self.prompts:
            _known("group of concepts", prompts.for_groups, kinds, f"prompts {prompts.name}")
            _known(
                "concept", [n for pair in prompts.pairs for n in pair], concepts, f"prompts {prompts.name}"
            )
        alone = [v.name for f in self.figures for v in f.variants if v.pairs and self.pairs is None]
        if alone:
            raise ValueError(f"the variant `{alone[0]}` learns in pairs, and the suite has no `[pairs]`")
        for figure in self.figures:
            where = f"figure {figure.id}"
            variants = _unique(f"variant of {where}", [variant.name for variant in figure.variants])
            _known("concept", figure.concepts, concepts, where)
            _known("prompt group", figure.prompts, groups, where)
            _known("base", figure.requires, set(self.bases), where)
            _known("search", figure.searches, set(searches), where)
            _known("variant", [v.against for v in figure.variants if v.against], variants, where)
            if figure.kind == "search" and figure.searches:
                raise ValueError(f"{where} searches, so its own variants cannot be chosen from a search")
            for variant in figure.variants:
                every = searches[variant.chosen_from].variants if variant.chosen_from else ()
                if {other.method for other in every} - {variant.method}:
                    raise ValueError(
                        f"{where}: the variant `{variant.name}` is of another method than what "
                        f"`{variant.chosen_from}` tries"
                    )
            chosen = variants | {label for variant in figure.variants for label in variant.points()}
            if figure.best:
                chosen.add("best H")
            if figure.normalised:
                chosen.add("supercategory")
            for claim in figure.claims:
                sides = [side for side in (claim.better, claim.than) if side]
                _known("variant or point", sides, chosen, where)
        return self

    @model_validator(mode="after")
    def _train_is_for_its_methods(self) -> Suite:
        said = self.train.model_dump(exclude_none=True)
        for name in dict.fromkeys(v.learned_by for f in self.figures for v in f.variants if v.learned_by):
            section = train_section(name)
            own = {key: value for key, value in said.items() if key in section.model_fields}
            table_of(section, own, f"is no option of [train] of the method `{name}`", below=("train",))
        return self

    def pair_prompts_of(self, group: str) -> tuple[str, ...]:
        """The prompts that put concepts of a group beside another thing; none where there are none for it."""
        return self.pairs.templates if self.pairs and group in self.pairs.for_groups else ()

    def figure(self, identity: str) -> Figure:
        """The figure of that id; raises PerfError, with those there are."""
        for figure in self.figures:
            if figure.id.lower() == identity.lower():
                return figure
        known = [figure.id for figure in self.figures]
        raise PerfError(
            f"the suite {self.name!r} has no figure {identity!r}",
            hint=did_you_mean(identity, known, f"its figures are {', '.join(known)}"),
        )


def _unique(what: str, names: list[str]) -> set[str]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"the {what} `{twice[0]}` is there twice")
    return set(names)


def _known(what: str, names: Iterable[str], known: set[str], where: str) -> None:
    for name in names:
        if name not in known:
            there = f"there are {', '.join(sorted(known))}" if known else "there are none"
            raise ValueError(f"{where} names the {what} `{name}`; {did_you_mean(name, known, there)}")


def read_suite(path: Path) -> Suite:
    """Read and check a suite; every mistake in the file is in the one PerfError that is raised."""
    return read_model(path, Suite, "suite")


def shipped_suites() -> dict[str, Path]:
    """The suites that come with the package: name -> file."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def find_suite(named: str) -> Path:
    """The file of a suite: a path, or the name of a shipped one. Raises PerfError where there is none."""
    shipped = shipped_suites()
    if named in shipped:
        return shipped[named]
    path = Path(named)
    if path.is_file():
        return path
    raise PerfError(
        f"there is no suite {named!r}",
        hint=did_you_mean(
            named, shipped, f"name a file, or one of {', '.join(shipped)} (perf evaluate list)"
        ),
    )
