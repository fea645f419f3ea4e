"""`evaluate`: measure concepts and methods by a suite, and report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from perfusion_registry.amounts import count, duration
from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.budget import Budget
from perfusion_registry.evaluate.suite import find_suite, read_suite, shipped_suites
from perfusion_registry.operations.cluster_build import check_for_cluster
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.result import InProcess, Result, named
from perfusion_registry.operations.workspace import Workspace, read_project
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.reporter import Reporter
from perfusion_registry.resolve import ProjectFolder
from perfusion_registry.shards import parse_shard

if TYPE_CHECKING:
    from perfusion_registry.cluster.address import ClusterAddress
    from perfusion_registry.evaluate.preparing import Workplace
    from perfusion_registry.evaluate.suite import Suite


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What to measure. suite: `paper`, or a suite's file. figures: ids; default all.

    out: the folder of results and report; None for `out/SUITE`. budget: of concepts, prompts, seeds and steps
    at most. bases: what fills the suite's slots for bases. dino: a folder with a DINO model, for similarity
    by it as well. report: write plots and a page. cluster: machines that build, draw and judge, if not this
    one alone; they are of its kind. shard: `2/8` is the second of eight parts, for as many machines; merge:
    the caches of others, from which what they have done is taken.
    """

    suite: str
    figures: tuple[str, ...] = ()
    out: Path | None = None
    jobs: int = 1
    budget: Budget = field(default_factory=Budget)
    bases: Mapping[str, str] = field(default_factory=dict)
    dino: Path | None = None
    report: bool = True
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    cluster: ClusterAddress | None = None
    shard: str | None = None
    merge: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        """Raise PerfError for what makes no sense on several machines, and for what is no shard."""
        if self.shard is not None:
            parse_shard(self.shard)
        if self.cluster is not None:
            check_for_cluster(False, self.jobs)


class ShippedFigure(FileModel):
    """A figure of a suite."""

    id: str
    title: str
    variants: InProcess[int]


class ShippedSuite(FileModel):
    """A suite that comes with the package."""

    name: str
    title: str
    figures: tuple[ShippedFigure, ...]


class EvaluateListResult(Result):
    """`perf evaluate list`."""

    schema_: Literal["perf.evaluate-list/1"] = named("perf.evaluate-list/1")
    suites: tuple[ShippedSuite, ...]


class Needed(FileModel):
    """How many of all are still to be made."""

    needed: int
    all: int


class EvaluatePartResult(Result):
    """`perf evaluate --shard`: which part it was, of how many, and how many concepts and pictures it has.
    idle: what is said of one that nothing falls to."""

    schema_: Literal["perf.evaluate-part/1"] = named("perf.evaluate-part/1")
    shard: tuple[int, int]
    concepts: int
    pictures: int
    idle: str | None

    @property
    def in_words(self) -> str:
        """What there is now, and what comes next."""
        part = f"{self.shard[0]}/{self.shard[1]}"
        return self.idle or (
            f"Part {part} is done: {count(self.concepts, 'concept')}, {count(self.pictures, 'picture')}. "
            "When all are, the same command without --shard adds them up, with --merge for each cache of "
            "another machine"
        )


class EvaluatePlanResult(Result):
    """`perf evaluate --dry-run`; searches: how many choose settings first, so that what is built after
    them can be other concepts, not more; seconds: of all that is left, by what the latest of each kind
    took here, None where some kind was never built. left_out: figures that cannot be drawn, and why."""

    schema_: Literal["perf.evaluate-plan/1"] = named("perf.evaluate-plan/1")
    builds: Needed
    pictures: Needed
    searches: int
    seconds: float | None
    left_out: dict[str, str]

    @property
    def in_words(self) -> str:
        """It, line by line."""
        lines = [
            f"Would build {self.builds.needed} of {self.builds.all} concepts",
            f"Would draw {self.pictures.needed} of {self.pictures.all} pictures",
        ]
        if self.searches and self.builds.needed:
            found = "a search chooses" if self.searches == 1 else f"{self.searches} searches choose"
            lines.append(f"Before what is compared {found} settings")
        if self.seconds:
            lines.append(f"Would take about {duration(self.seconds)}, as it took here the last time")
        elif self.seconds is None:
            lines.append("How long is not known: some kind of it was never done here")
        lines += [f"Would leave out figure {name}: {why}" for name, why in self.left_out.items()]
        return "\n".join(lines)


class EvaluatedFigure(FileModel):
    """A figure that was measured, or why it was not. points: how many operating points it has."""

    id: str
    left_out: str
    points: int


class MeasuredDifference(FileModel):
    """By how much, with its 95 % interval where there is one."""

    value: float
    low: float | None
    high: float | None


class EvaluatedClaim(FileModel):
    """What became of a claim. difference: of what it calls better over the other."""

    figure: str
    text: str
    verdict: Literal["holds", "fails", "open", "unmeasured"]
    difference: MeasuredDifference | None


class EvaluateResult(Result):
    """`perf evaluate`; results, report: their files. pictures: how many were judged. measured: all of it."""

    schema_: Literal["perf.evaluate/1"] = named("perf.evaluate/1")
    results: str
    report: str | None
    pictures: int
    figures: tuple[EvaluatedFigure, ...]
    claims: tuple[EvaluatedClaim, ...]
    measured: InProcess[Any]


def evaluate(workspace: Workspace, options: EvaluateOptions) -> EvaluateResult:
    """Build, draw, judge and report.

    What is there already is not done again, so a run goes on where it was.
    """
    suite, path = _suite(options)
    from perfusion_registry.evaluate.plots import require_matplotlib
    from perfusion_registry.evaluate.results import RESULTS
    from perfusion_registry.evaluate.runner import evaluate as run

    if options.report:
        require_matplotlib()  # before hours of work, not after
    machines = _machines(options)
    place, reporter = _workplace(workspace, suite, path, options), workspace.reporter
    _warn_of_others(place.out, options.figures, reporter)
    measured = run(
        suite,
        path,
        place,
        figures=options.figures,
        budget=options.budget,
        reporter=reporter,
        machines=machines,
    )
    page = None
    if options.report:
        from perfusion_registry.evaluate.report import write_report

        with reporter.stage("Writing the report"):
            page = write_report(measured, place.out)
    figures = tuple(
        EvaluatedFigure(id=figure.id, left_out=figure.left_out, points=len(figure.points))
        for figure in measured.figures
    )
    claims = []
    for figure in measured.figures:
        for claim in figure.claims:
            by = claim.difference
            difference = MeasuredDifference(value=by.value, low=by.low, high=by.high) if by else None
            claims.append(
                EvaluatedClaim(
                    figure=figure.id, text=claim.text, verdict=claim.verdict, difference=difference
                )
            )
    return EvaluateResult(
        results=str(place.out / RESULTS),
        report=str(page) if page else None,
        pictures=len(measured.images),
        figures=figures,
        claims=tuple(claims),
        measured=measured,
    )


def evaluate_part(workspace: Workspace, options: EvaluateOptions) -> EvaluatePartResult:
    """Build, draw and judge what falls to one of several machines, into its store; there is no report.

    An evaluation with the stores of all of them (`merge`) then has nothing left to draw.
    """
    assert options.shard is not None
    shard = parse_shard(options.shard)
    suite, path = _suite(options)
    from perfusion_registry.evaluate.runner import evaluate_part as run

    done = run(
        suite,
        path,
        _workplace(workspace, suite, path, options),
        shard,
        figures=options.figures,
        budget=options.budget,
        reporter=workspace.reporter,
        machines=_machines(options),
    )
    pictures = {key for _, _, score in done.judged for key in score.keys}
    return EvaluatePartResult(
        shard=shard,
        concepts=len(done.built),
        pictures=len(pictures),
        idle=None if pictures else f"shard {shard[0]}/{shard[1]} has nothing to do: there are fewer pieces",
    )


def _machines(options: EvaluateOptions) -> Any:
    """What does the orders, if not processes of this machine."""
    if options.cluster is None:
        return None
    from perfusion_registry.cluster.connection import require_ray
    from perfusion_registry.operations.cluster_evaluation import orders_on

    require_ray()
    return partial(orders_on, options.cluster)


def plan_evaluation(workspace: Workspace, options: EvaluateOptions) -> EvaluatePlanResult:
    """How much `evaluate` would have to do."""
    suite, path = _suite(options)
    from perfusion_registry.evaluate.parts import part_of
    from perfusion_registry.evaluate.preparing import ahead, prepared
    from perfusion_registry.evaluate.runner import searched

    place = _workplace(workspace, suite, path, options)
    plan, _ = prepared(suite, path, place, figures=options.figures, budget=options.budget)
    plan = searched(suite, plan, place.root, place.elsewhere)
    if options.shard is not None:
        plan = part_of(plan, parse_shard(options.shard))
    todo = ahead(plan, place.root, place.elsewhere)
    return EvaluatePlanResult(
        builds=Needed(needed=todo.builds[0], all=todo.builds[1]),
        pictures=Needed(needed=todo.pictures[0], all=todo.pictures[1]),
        searches=len(set(plan.searches) - plan.choices.keys()),
        seconds=todo.seconds,
        left_out=dict(todo.skipped),
    )


def list_suites() -> EvaluateListResult:
    """The suites that come with the package."""
    suites = {name: read_suite(path) for name, path in shipped_suites().items()}
    return EvaluateListResult(
        suites=tuple(
            ShippedSuite(
                name=name,
                title=suite.title,
                figures=tuple(
                    ShippedFigure(id=figure.id, title=figure.title, variants=len(figure.variants))
                    for figure in suite.figures
                ),
            )
            for name, suite in suites.items()
        )
    )


def read_bases(given: Iterable[str]) -> dict[str, str]:
    """What `--with-base NAME=BASE` says: the slots of a suite's bases, and what fills each."""
    bases = {}
    for text in given:
        name, equals, reference = text.partition("=")
        if not equals or not reference:
            raise PerfError(
                f"{text!r} does not say which base fills the slot",
                where="--with-base",
                hint=f"{name}=FOLDER, or {name}=owner/name@revision",
            )
        bases[name] = reference
    return bases


def _suite(options: EvaluateOptions) -> tuple[Suite, Path]:
    """The suite with the bases and the DINO model of the options, and its file."""
    from perfusion_registry.base import BaseReference

    path = find_suite(options.suite)
    suite = read_suite(path)
    bases = dict(suite.bases)
    for name, reference in options.bases.items():
        if name not in bases:
            there = f"it has {', '.join(bases)}" if bases else "it has none; leave the option out"
            raise PerfError(f"this suite has no slot {name!r} for a base", where="--with-base", hint=there)
        bases[name] = BaseReference.parse(reference, where="--with-base").seen_from(Path.cwd())
    update: dict[str, Any] = {"bases": bases}
    if options.dino is not None:
        update["dino"] = str(options.dino.absolute())
        update["figures"] = tuple(
            figure.model_copy(update={"metrics": tuple(dict.fromkeys((*figure.metrics, "dino")))})
            for figure in suite.figures
        )
    return suite.model_copy(update=update), path


def _workplace(workspace: Workspace, suite: Suite, path: Path, options: EvaluateOptions) -> Workplace:
    from perfusion_registry.base import BaseReference
    from perfusion_registry.evaluate.parts import Elsewhere
    from perfusion_registry.evaluate.preparing import SuiteBases, Workplace

    folder = options.out or Path("out") / suite.name
    compute, bases = options.compute, SuiteBases(workspace.base_named)
    if suite.base is None and workspace.root is not None:
        project = workspace.read()
        own = BaseReference.parse(project.manifest.project.base, where=str(project.manifest_path))
        bases = SuiteBases(workspace.base_named, own.seen_from(project.root), _covariance(project))
    elif suite.base is not None and BaseReference.parse(suite.base, where=str(path)).is_manifest:
        other = BaseReference.parse(suite.base).place(path.parent)
        assert other is not None
        bases = SuiteBases(workspace.base_named, covariance=_covariance(read_project(other)))
    return Workplace(
        workspace.store.root,
        folder,
        compute.device,
        compute.dtype,
        options.jobs,
        bases,
        compute.offload,
        Elsewhere(tuple(folder.absolute() for folder in options.merge)),
    )


def _covariance(project: ProjectFolder) -> Path | None:
    named = project.manifest.project.covariance
    return project.root / named if named else None


def _warn_of_others(folder: Path, figures: tuple[str, ...], reporter: Reporter) -> None:
    """Say that a report of other figures will be replaced; what it is made from stays in the cache."""
    from perfusion_registry.evaluate.results import RESULTS, read_results

    if not figures:
        return
    try:
        before = read_results(folder / RESULTS)
    except (OSError, PerfError):
        return
    chosen = {name.lower() for name in figures}
    others = [
        figure.id for figure in before.figures if figure.id.lower() not in chosen and not figure.left_out
    ]
    if others:
        reporter.warn(
            f"{folder} held figures {', '.join(others)}; this run's report replaces theirs "
            "(--out names another folder; nothing would be drawn again)"
        )
