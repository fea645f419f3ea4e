"""`perf tune`: let pictures decide a prompt's gates and key locks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfusion_registry.cli.help import GATES, PICTURE
from perfusion_registry.cli.options import (
    DeviceOption,
    DtypeOption,
    FrozenOption,
    JsonOption,
    LockedOption,
    OfflineOption,
    ProjectOption,
    QuietOption,
)
from perfusion_registry.cli.prompting import Place, PromptArgument, WithOption
from perfusion_registry.cli.render import (
    ForceOption,
    GuidanceOption,
    NegativeOption,
    OpenOption,
    SchedulerOption,
    SeedOption,
    SizeOption,
    StepsOption,
)

if TYPE_CHECKING:
    from perfusion_registry.render.tuning import Attempt, Setting, Settings, Tuned

_SHOWN = 12  # rows of the table


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("tune")(tune)


def tune(
    prompt: PromptArgument = None,
    scene: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Write the result to this scene of perfusion.toml; without a prompt, tune its own.",
        ),
    ] = None,
    images: Annotated[int, typer.Option(metavar="N", min=1, help="Draw so many pictures at most.")] = 72,
    count: Annotated[
        int,
        typer.Option(
            "--seeds", metavar="N", min=1, max=100, help="Judge on so many seeds.", rich_help_panel=PICTURE
        ),
    ] = 4,
    seed: SeedOption = None,
    bias: Annotated[
        str | None,
        typer.Option(
            metavar="B,B,...",
            help="The biases to try.",
            show_default="the paper's, by lock",
            rich_help_panel=GATES,
        ),
    ] = None,
    temperature: Annotated[
        str | None,
        typer.Option(
            metavar="T,T,...", help="The temperatures to try.", show_default="0.1,0.15", rich_help_panel=GATES
        ),
    ] = None,
    lock: Annotated[
        str | None,
        typer.Option(
            metavar="LOCK,...",
            help="The key locks to try.",
            show_default="all that are possible",
            rich_help_panel=GATES,
        ),
    ] = None,
    residual: Annotated[
        str | None,
        typer.Option(
            metavar="R,R,...",
            help="The strengths of residuals to try.",
            show_default="as they are",
            rich_help_panel=GATES,
        ),
    ] = None,
    files: WithOption = None,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    negative: NegativeOption = None,
    size: SizeOption = None,
    scheduler: SchedulerOption = None,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also lay out the pictures before and after, side by side."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Search, but leave perfusion.toml alone.")
    ] = False,
    force: ForceOption = False,
    show: OpenOption = False,
    locked: LockedOption = False,
    frozen: FrozenOption = False,
    offline: OfflineOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    project: ProjectOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Choose a prompt's gates, locks and residuals by their pictures.

    Judged by the harmonic mean of image and text similarity of the base's CLIP model, on the same seeds for
    all. Several concepts are tuned in turn; the better half of each round goes on to more seeds.
    """
    from perfusion_registry.cli import console
    from perfusion_registry.cli.given import Given, Wanted
    from perfusion_registry.cli.work import to_tune
    from perfusion_registry.render.output import check_formats

    check_formats(None, sheet)
    reporter = console.reporter(quiet)
    wanted = Wanted.read(prompt, scene, bias, temperature, lock, residual, images)
    given = Given.read(0 if seed is None else seed, count, steps, guidance, negative, size, scheduler, None)
    place = Place(
        project, device, dtype, locked=locked, frozen=frozen, offline=offline, files=tuple(files or ())
    )
    work = to_tune(place, wanted, given, reporter)
    from perfusion_registry.cli.tuning import carry_out

    done = carry_out(work, wanted, reporter, sheet=sheet, files=place.files, force=force, dry_run=dry_run)
    names = [concept.name for concept in done.composition.concepts]
    if as_json:
        said = {
            "prompt": done.composition.prompt,
            "scene": scene,
            "written": done.written,
            "drawn": done.tuned.drawn,
            "sheet": str(sheet) if sheet else None,
            "before": _row(names, done.tuned.before),
            "after": _row(names, done.tuned.after),
            "tried": [_row(names, attempt) for attempt in done.tuned.attempts],
        }
        console.say_json("perf.tune/1", said)
    else:
        _tell(names, done.tuned)
        console.say(done.told)
    if show and sheet is not None:
        typer.launch(str(sheet))


def _tell(names: list[str], tuned: Tuned) -> None:
    from perfusion_registry.cli import console

    shown = list(tuned.attempts[:_SHOWN])
    if tuned.before not in shown:
        shown.append(tuned.before)
    several = names if len(names) > 1 else []
    rows = [
        [
            _mark(attempt, tuned),
            *_told(attempt.settings),
            str(attempt.seeds),
            *(f"{attempt.alike[name]:.3f}" for name in several),
            f"{attempt.scores.image:.3f}",
            f"{attempt.scores.text:.3f}",
            f"{attempt.scores.harmonic:.3f}",
        ]
        for attempt in shown
    ]
    numbers = ["seeds", *(f"{name}* alike" for name in several), "image", "text", "harmonic"]
    columns = ["", *(f"{name}*" for name in names), *numbers]
    console.say_table(columns, rows, right=numbers)
    left = len(tuned.attempts) - len(shown)
    rest = f", {left} of them not shown" if left > 0 else ""
    console.say(f"{len(tuned.attempts)} choices tried with {tuned.drawn} pictures{rest}")


def _mark(attempt: Attempt, tuned: Tuned) -> str:
    if attempt.settings == tuned.after.settings:
        return "best"
    return "before" if attempt.settings == tuned.before.settings else ""


def _told(settings: Settings) -> list[str]:
    return [
        f"{one.bias:g}, {one.temperature:g}, {one.key_lock}"
        + ("" if one.residual is None else f", {one.residual:g}")
        for one in settings
    ]


def _row(names: list[str], attempt: Attempt) -> dict[str, Any]:
    return {
        "gates": {name: _gate(setting) for name, setting in zip(names, attempt.settings, strict=True)},
        "seeds": attempt.seeds,
        "alike": {name: round(value, 6) for name, value in attempt.alike.items()},
        "image": round(attempt.scores.image, 6),
        "text": round(attempt.scores.text, 6),
        "harmonic": round(attempt.scores.harmonic, 6),
    }


def _gate(setting: Setting) -> dict[str, Any]:
    return {key: value for key, value in vars(setting).items() if value is not None}
