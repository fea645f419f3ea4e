"""`evaluate`: measure concepts and methods by a suite, and report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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
    one alone; they are of its kind.
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

    def __post_init__(self) -> None:
        """Raise PerfError for what makes no sense on several machines."""
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


class EvaluatePlanResult(Result):
    """`perf evaluate --dry-run`; left_out: figures that cannot be drawn, and why."""

    schema_: Literal["perf.evaluate-plan/1"] = named("perf.evaluate-plan/1")
    builds: Needed
    pictures: Needed
    left_out: dict[str, str]


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
    machines = None
    if options.cluster is not None:
        from perfusion_registry.cluster.connection import require_ray
        from perfusion_registry.operations.cluster_evaluation import orders_on

        require_ray()
        machines = partial(orders_on, options.cluster)
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


def plan_evaluation(workspace: Workspace, options: EvaluateOptions) -> EvaluatePlanResult:
    """How much `evaluate` would have to do."""
    suite, path = _suite(options)
    from perfusion_registry.evaluate.preparing import ahead, prepared

    place = _workplace(workspace, suite, path, options)
    plan, _ = prepared(suite, path, place, figures=options.figures, budget=options.budget)
    todo = ahead(plan, place.root)
    return EvaluatePlanResult(
        builds=Needed(needed=todo.builds[0], all=todo.builds[1]),
        pictures=Needed(needed=todo.pictures[0], all=todo.pictures[1]),
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
        workspace.store.root, folder, compute.device, compute.dtype, options.jobs, bases, compute.offload
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
