"""`perf evaluate`: measure concepts and methods by suites, and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from perfusion_registry.cli import console, options
from perfusion_registry.cli.help import argument, flag, option
from perfusion_registry.cli.options import (
    Compute,
    DryRunOption,
    JobsOption,
    ShardOption,
    StandaloneWithProgress,
)

if TYPE_CHECKING:
    from perfusion_registry.evaluate.results import Results
    from perfusion_registry.operations.evaluate import EvaluateListResult, EvaluateResult


def evaluate(
    compute: Compute,
    output: StandaloneWithProgress,
    machines: options.OtherMachines,
    suite: Annotated[
        str, argument("SUITE", "`paper`, `rivals`, a suite's file, or `list` for those that are shipped.")
    ],
    figure: Annotated[list[str] | None, option("ID", "Only this figure. Repeatable.", default="all")] = None,
    out: Annotated[
        Path | None, option("DIR", "Where to write results and report.", default="out/SUITE")
    ] = None,
    jobs: JobsOption = 1,
    concepts: Annotated[int | None, option("N", "At most N concepts in a figure.", min=1)] = None,
    prompts: Annotated[int | None, option("N", "At most N prompts in a group.", min=1)] = None,
    seeds: Annotated[int | None, option("N", "At most N pictures of a prompt.", min=1)] = None,
    steps: Annotated[int | None, option("N", "At most N denoising steps.", min=1)] = None,
    train_steps: Annotated[int | None, option("N", "At most N training steps.", min=1)] = None,
    with_base: Annotated[
        list[str] | None, option("NAME=BASE", "Fill a slot of the suite's bases. Repeatable.")
    ] = None,
    trainings: Annotated[int | None, option("N", "At most N trainings of a concept.", min=1)] = None,
    settings: Annotated[int | None, option("N", "At most N settings in a search.", min=1)] = None,
    method: Annotated[
        list[str] | None, option("METHOD", "Only this method. Repeatable.", default="all")
    ] = None,
    dino: Annotated[Path | None, option("DIR", "A DINO model, for similarity by it as well.")] = None,
    shard: ShardOption = None,
    merge: Annotated[list[Path] | None, option("DIR", "Take what is in another machine's cache.")] = None,
    report: Annotated[bool, flag("Write plots and report.html.", "--report/--no-report")] = True,
    dry_run: DryRunOption = False,
) -> None:
    """Measure a suite: build, draw, judge, report.

    What is built, drawn or judged already is not done again, so an interrupted run goes on where it was.
    """
    from perfusion_registry.operations import evaluate as operation
    from perfusion_registry.operations.workspace import Workspace

    if suite == "list":
        output.show(operation.list_suites(), _tell_suites)
        return
    from perfusion_registry.evaluate.budget import Budget

    asked = operation.EvaluateOptions(
        suite=suite,
        figures=tuple(figure or ()),
        out=out,
        jobs=jobs,
        budget=Budget.within(concepts, prompts, seeds, steps, train_steps, trainings, settings, method or ()),
        bases=operation.read_bases(with_base or ()),
        dino=dino,
        report=report,
        compute=compute.read(),
        cluster=machines.read(),
        shard=shard,
        merge=tuple(merge or ()),
    )
    with Workspace.open(optional=True, reporter=output.reporter()) as workspace:
        if dry_run:
            output.show(operation.plan_evaluation(workspace, asked), lambda plan: console.say(plan.in_words))
        elif shard is not None:
            output.show(operation.evaluate_part(workspace, asked), lambda part: console.say(part.in_words))
        else:
            output.show(operation.evaluate(workspace, asked), _tell)


def _tell_suites(result: EvaluateListResult) -> None:
    rows = [
        [suite.name, figure.id, figure.title, str(figure.variants)]
        for suite in result.suites
        for figure in suite.figures
    ]
    console.say_table(["suite", "figure", "title", "variants"], rows, right=["variants"])


def _tell(result: EvaluateResult) -> None:
    from perfusion_registry.evaluate.metrics import in_short, plainly

    measured: Results = result.measured
    points = [(figure.id, point) for figure in measured.figures for point in figure.points]
    metrics = [metric for metric in _METRICS if any(metric in point.metrics for _, point in points)]
    rows = [
        [name, point.label, *(in_short(point.metrics.get(metric)) for metric in metrics)]
        for name, point in points
    ]
    columns = [metric.removesuffix("_normalised") for metric in metrics]
    console.say_table(["figure", "point", *columns], rows, right=columns)
    claims = [(figure.id, claim) for figure in measured.figures for claim in figure.claims]
    if claims:
        console.say("")
        judged = [[name, claim.text, claim.verdict, plainly(claim)] for name, claim in claims]
        console.say_table(["figure", "claim", "verdict", "difference"], judged)
    for conclusion in measured.comparison.conclusions if measured.comparison else ():
        console.say(f"- {conclusion.text}".replace("\N{NO-BREAK SPACE}", " "))
    console.say(result.report or result.results)


_METRICS = ("image", "text_normalised", "harmonic", "obeyed", "identified", "both", "leakage")
"""Those that the table has room for, in its order."""
