"""`perf evaluate`: measure concepts and methods by suites, and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfusion_registry.cli.options import (
    DeviceOption,
    DryRunOption,
    DtypeOption,
    JobsOption,
    JsonOption,
    QuietOption,
)

if TYPE_CHECKING:
    from perfusion_registry.evaluate.results import ClaimResult, Results
    from perfusion_registry.evaluate.runner import Ahead
    from perfusion_registry.evaluate.suite import Suite
    from perfusion_registry.reporter import Reporter


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate")(evaluate)


def evaluate(
    suite: Annotated[
        str,
        typer.Argument(
            metavar="SUITE", help="`paper`, a suite's file, or `list` for those that are shipped."
        ),
    ],
    figure: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Only this figure. Repeatable.", show_default="all"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to write results and report.", show_default="out/SUITE"),
    ] = None,
    jobs: JobsOption = 1,
    concepts: Annotated[
        int | None, typer.Option(metavar="N", help="At most N concepts in a figure.", min=1)
    ] = None,
    prompts: Annotated[
        int | None, typer.Option(metavar="N", help="At most N prompts in a group.", min=1)
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(metavar="N", help="At most N pictures of a prompt.", min=1)
    ] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", help="At most N denoising steps.", min=1)] = None,
    train_steps: Annotated[
        int | None, typer.Option(metavar="N", help="At most N training steps.", min=1)
    ] = None,
    with_base: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=BASE", help="Fill a slot of the suite's bases. Repeatable."),
    ] = None,
    dino: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A DINO model, for similarity by it as well.")
    ] = None,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write plots and report.html.")] = True,
    dry_run: DryRunOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a suite: build, draw, judge, report.

    What is built, drawn or judged already is not done again, so an interrupted run goes on where it was.
    """
    from perfusion_registry.artifact import cache_dir
    from perfusion_registry.cli import console
    from perfusion_registry.evaluate.budget import Budget
    from perfusion_registry.evaluate.suite import find_suite, read_suite

    if suite == "list":
        _list(as_json=as_json)
        return
    path = find_suite(suite)
    chosen = _filled(read_suite(path), with_base or [], dino)
    budget = Budget(concepts=concepts, prompts=prompts, seeds=seeds, steps=steps, train_steps=train_steps)
    from perfusion_registry.evaluate.plots import require_matplotlib
    from perfusion_registry.evaluate.runner import Workplace, ahead, prepared
    from perfusion_registry.evaluate.runner import evaluate as run

    if report and not dry_run:
        require_matplotlib()  # before hours of work, not after
    folder = out or Path("out") / chosen.name
    place = Workplace(cache_dir(), folder, device, dtype, jobs)
    if dry_run:
        plan, _ = prepared(chosen, path, place, figures=figure or [], budget=budget)
        _tell_ahead(ahead(plan, place.root), as_json=as_json)
        return
    reporter = console.reporter(quiet)
    _warn_of_others(folder, figure or [], reporter)
    results = run(chosen, path, place, figures=figure or [], budget=budget, reporter=reporter)
    page = None
    if report:
        from perfusion_registry.evaluate.report import write_report

        with reporter.stage("Writing the report"):
            page = write_report(results, folder)
    _tell(results, folder, page, as_json=as_json)


def _filled(suite: Suite, given: list[str], dino: Path | None) -> Suite:
    """The suite with the bases and the DINO model that the command line names."""
    from perfusion_registry.errors import PerfError

    bases = dict(suite.bases)
    for text in given:
        name, equals, reference = text.partition("=")
        if name not in bases:
            there = f"it has {', '.join(bases)}" if bases else "it has none; leave the option out"
            raise PerfError(f"this suite has no slot {name!r} for a base", where="--with-base", hint=there)
        if not equals or not reference:
            raise PerfError(
                f"{text!r} does not say which base fills the slot",
                where="--with-base",
                hint=f"{name}=FOLDER, or {name}=owner/name@revision",
            )
        bases[name] = str(Path(reference).absolute()) if reference.startswith(".") else reference
    update: dict[str, Any] = {"bases": bases}
    if dino is not None:
        update["dino"] = str(dino.absolute())
        update["figures"] = tuple(
            figure.model_copy(update={"metrics": tuple(dict.fromkeys((*figure.metrics, "dino")))})
            for figure in suite.figures
        )
    return suite.model_copy(update=update)


def _warn_of_others(folder: Path, figures: list[str], reporter: Reporter) -> None:
    """Say that a report of other figures will be replaced; what it is made from stays in the cache."""
    from perfusion_registry.errors import PerfError
    from perfusion_registry.evaluate.results import RESULTS, read_results

    if not figures:
        return
    try:
        before = read_results(folder / RESULTS)
    except (OSError, PerfError):
        return
    named = {name.lower() for name in figures}
    others = [one.id for one in before.figures if one.id.lower() not in named and not one.left_out]
    if others:
        reporter.warn(
            f"{folder} held figures {', '.join(others)}; this run's report replaces theirs "
            "(--out names another folder; nothing would be drawn again)"
        )


def _list(*, as_json: bool) -> None:
    from perfusion_registry.cli import console
    from perfusion_registry.evaluate.suite import read_suite, shipped_suites

    suites = {name: read_suite(path) for name, path in shipped_suites().items()}
    if as_json:
        rows = [
            {
                "name": name,
                "title": suite.title,
                "figures": [{"id": figure.id, "title": figure.title} for figure in suite.figures],
            }
            for name, suite in suites.items()
        ]
        console.say_json("perf.evaluate-list/1", {"suites": rows})
        return
    told = [
        [name, figure.id, figure.title, str(len(figure.variants))]
        for name, suite in suites.items()
        for figure in suite.figures
    ]
    console.say_table(["suite", "figure", "title", "variants"], told, right=["variants"])


def _tell_ahead(found: Ahead, *, as_json: bool) -> None:
    from perfusion_registry.cli import console

    if as_json:
        said = {
            "builds": {"needed": found.builds[0], "all": found.builds[1]},
            "pictures": {"needed": found.pictures[0], "all": found.pictures[1]},
            "left_out": dict(found.skipped),
        }
        console.say_json("perf.evaluate-plan/1", said)
        return
    console.say(f"Would build {found.builds[0]} of {found.builds[1]} concepts")
    console.say(f"Would draw {found.pictures[0]} of {found.pictures[1]} pictures")
    for name, why in found.skipped.items():
        console.say(f"Would leave out figure {name}: {why}")


def _tell(results: Results, folder: Path, page: Path | None, *, as_json: bool) -> None:
    from perfusion_registry.cli import console
    from perfusion_registry.evaluate.results import RESULTS

    claims = [(figure.id, claim) for figure in results.figures for claim in figure.claims]
    if as_json:
        said = {
            "results": str(folder / RESULTS),
            "report": str(page) if page else None,
            "pictures": len(results.images),
            "figures": [
                {"id": figure.id, "left_out": figure.left_out, "points": len(figure.points)}
                for figure in results.figures
            ],
            "claims": [
                {
                    "figure": name,
                    "text": claim.text,
                    "verdict": claim.verdict,
                    "difference": claim.difference.model_dump(exclude={"pictures"})
                    if claim.difference
                    else None,
                }
                for name, claim in claims
            ],
        }
        console.say_json("perf.evaluate/1", said)
        return
    points = [(figure.id, point) for figure in results.figures for point in figure.points]
    columns = {m: title for m, title in _COLUMNS.items() if any(m in point.metrics for _, point in points)}
    rows = [
        [name, point.label, *(_number(point.metrics, metric) for metric in columns)] for name, point in points
    ]
    console.say_table(["figure", "point", *columns.values()], rows, right=[*columns.values()])
    if claims:
        console.say("")
        judged = [[name, claim.text, claim.verdict, _difference(claim)] for name, claim in claims]
        console.say_table(["figure", "claim", "verdict", "difference"], judged)
    console.say(str(page or folder / RESULTS))


_COLUMNS = {
    "image": "image",
    "text_normalised": "text",
    "harmonic": "harmonic",
    "obeyed": "obeyed",
    "identified": "identified",
    "both": "both",
    "leakage": "leakage",
}


def _difference(claim: ClaimResult) -> str:
    from perfusion_registry.evaluate.metrics import difference

    return difference(claim.metric, claim.difference).replace("\N{NO-BREAK SPACE}", " ")


def _number(metrics: Any, name: str) -> str:
    found = metrics.get(name)
    if found is None:
        return ""
    arms = f" ±{(found.high - found.low) / 2:.3f}" if found.low is not None else ""
    return f"{found.value:.3f}{arms}"
