"""`perf render` and `perf sweep`: draw prompts with their concepts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
from perfusion_registry.cli.prompting import (
    FOLDER,
    BiasOption,
    LockOption,
    Outputs,
    Place,
    PresetOption,
    PromptArgument,
    ResidualOption,
    SceneOption,
    TemperatureOption,
    WithOption,
    command_gates,
)
from perfusion_registry.errors import PerfError

SeedOption = Annotated[
    int | None,
    typer.Option(metavar="N", help="The first seed.", show_default="0", rich_help_panel=PICTURE),
]
StepsOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Denoising steps.", show_default="the base's, else 50", rich_help_panel=PICTURE
    ),
]
GuidanceOption = Annotated[
    float | None,
    typer.Option(
        metavar="G",
        help="Classifier-free guidance scale.",
        show_default="the base's, else 6",
        rich_help_panel=PICTURE,
    ),
]
NegativeOption = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="What the picture should not show.", rich_help_panel=PICTURE),
]
SizeOption = Annotated[
    str | None,
    typer.Option(
        metavar="WxH",
        help="The picture's size in pixels.",
        show_default="the base's",
        rich_help_panel=PICTURE,
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="ddim, dpmsolver or euler.",
        show_default="the base's, else ddim",
        rich_help_panel=PICTURE,
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite other files.")]
OpenOption = Annotated[bool, typer.Option("--open", help="Show the result when it is done.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("render")(render)
    app.command("sweep")(sweep)


def render(
    prompt: PromptArgument = None,
    scene: SceneOption = None,
    composition: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw a composition that `perf compose` wrote.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="IMAGE", help="Draw again what made this picture.")
    ] = None,
    seed: SeedOption = None,
    count: Annotated[
        int | None,
        typer.Option(metavar="N", help="How many seeds.", show_default="1", min=1, rich_help_panel=PICTURE),
    ] = None,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    negative: NegativeOption = None,
    size: SizeOption = None,
    scheduler: SchedulerOption = None,
    batch: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Pictures to draw at once.", show_default="1", rich_help_panel=PICTURE
        ),
    ] = None,
    bias: BiasOption = None,
    temperature: TemperatureOption = None,
    lock: LockOption = None,
    residual: ResidualOption = None,
    preset: PresetOption = None,
    files: WithOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="A folder, or a .png file.", show_default=f"{FOLDER}/ of the project"
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also lay out a contact sheet with the reference images."),
    ] = None,
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
    """Draw a prompt with its concepts.

    The files' names go to stdout. A picture carries all that made it, and --from draws it again to the pixel.
    What --composition and --from draw is named by its hashes: no lockfile has a say in it.
    """
    from perfusion_registry.cli import console
    from perfusion_registry.cli.given import Given
    from perfusion_registry.cli.work import from_composition, from_picture, from_prompt
    from perfusion_registry.render.output import check_formats

    sources = {"a prompt": prompt or scene, "--composition": composition, "--from": source}
    named = [name for name, value in sources.items() if value is not None]
    if len(named) > 1:
        raise PerfError(f"{' and '.join(named)} cannot go together", hint="choose one")
    if files and (source is not None or composition is not None):
        raise PerfError(
            f"{named[0]} names its concepts by their hashes, so no file can stand in for one",
            where=f"--with {files[0]}",
            hint="give a prompt instead",
        )
    check_formats(out, sheet)
    reporter = console.reporter(quiet)
    place = Place(
        project, device, dtype, locked=locked, frozen=frozen, offline=offline, files=tuple(files or ())
    )
    gates = command_gates(bias, temperature, lock, residual, preset)
    given = Given.read(seed, count, steps, guidance, negative, size, scheduler, batch)
    if source is not None:
        work = from_picture(place, source, given, gates, reporter)
    elif composition is not None:
        work = from_composition(place, composition, given, gates, reporter)
    else:
        work = from_prompt(place, prompt, scene, given, gates, reporter)
    from perfusion_registry.cli.drawing import draw

    outputs = Outputs(out, sheet, force=force)
    drawn = draw(work, outputs, reporter, tell=None if as_json else console.say)
    if as_json:
        said = {
            "pictures": [{"path": str(path), "seed": seed} for path, seed in drawn],
            "sheet": str(sheet) if sheet else None,
            "composition": work.ready.composition.model_dump(mode="json"),
        }
        console.say_json("perf.render/1", said)
    if show:
        typer.launch(str(sheet or drawn[0][0]))


def sweep(
    prompt: PromptArgument = None,
    scene: SceneOption = None,
    bias: Annotated[
        str, typer.Option(metavar="B,B,...", help="The biases, from left to right.", rich_help_panel=GATES)
    ] = "0.5,0.7,0.9,1.1,1.3",
    temperature: Annotated[
        str,
        typer.Option(metavar="T,T,...", help="The temperatures, from top to bottom.", rich_help_panel=GATES),
    ] = "0.1,0.15",
    concept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Vary this concept's gate. Repeatable.",
            show_default="all",
            rich_help_panel=GATES,
        ),
    ] = None,
    lock: LockOption = None,
    residual: ResidualOption = None,
    files: WithOption = None,
    seed: SeedOption = None,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    negative: NegativeOption = None,
    size: SizeOption = None,
    scheduler: SchedulerOption = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The sheet.", show_default=f"in {FOLDER}/ of the project"),
    ] = None,
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
    """Draw a prompt over a grid of gate biases and temperatures.

    All with one seed, as in the paper's Figure 7.
    """
    from perfusion_registry.cli import console
    from perfusion_registry.cli.given import Given, Grid
    from perfusion_registry.cli.work import from_prompt
    from perfusion_registry.render.output import check_formats

    reporter = console.reporter(quiet)
    check_formats(None, out)
    grid = Grid.read(bias, temperature, concept)
    given = Given.read(seed, None, steps, guidance, negative, size, scheduler, None)
    gates = command_gates(None, None, lock, residual)
    place = Place(
        project, device, dtype, locked=locked, frozen=frozen, offline=offline, files=tuple(files or ())
    )
    work = from_prompt(place, prompt, scene, given, gates, reporter)
    from perfusion_registry.cli.drawing import draw_grid

    path = draw_grid(work, grid, out, reporter, force=force)
    if as_json:
        said = {
            "sheet": str(path),
            "biases": list(grid.biases),
            "temperatures": list(grid.temperatures),
            "composition": work.ready.composition.model_dump(mode="json"),
        }
        console.say_json("perf.sweep/1", said)
    else:
        console.say(str(path))
    if show:
        typer.launch(str(path))
