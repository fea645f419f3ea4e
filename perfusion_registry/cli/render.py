"""`perf render` and `perf sweep`: draw prompts with their concepts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfusion_registry.cli import console
from perfusion_registry.cli.drawing import (
    GateOptions,
    LockOption,
    OpenOption,
    PictureOptions,
    PromptArguments,
    ResidualOption,
    axis,
    concept_names,
)
from perfusion_registry.cli.help import GATES, PICTURE
from perfusion_registry.cli.options import CommonWithProgress, Compute, ForceOption, LockfileUse
from perfusion_registry.cli.spread import spread
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from perfusion_registry.compose.composition import Composition

BIASES, TEMPERATURES = "relative ones: 0.6,0.85,0.95,1.05,1.15", "0.1,0.15"
"""What `perf sweep` says of its defaults."""


@spread
def render(
    prompt: PromptArguments,
    gates: GateOptions,
    picture: PictureOptions,
    lockfile: LockfileUse,
    compute: Compute,
    common: CommonWithProgress,
    composition: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw a composition that `perf compose` wrote.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="IMAGE", help="Draw again what made this picture.")
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(metavar="N", help="How many seeds.", show_default="1", min=1, rich_help_panel=PICTURE),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Pictures to draw at once.", show_default="1", rich_help_panel=PICTURE
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="A folder, or a .png file.", show_default="renders/ of the project"
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also lay out a contact sheet with the reference images."),
    ] = None,
    force: ForceOption = False,
    show: OpenOption = False,
) -> None:
    """Draw a prompt with its concepts.

    The files' names go to stdout. A picture carries all that made it, and --from draws it again to the pixel.
    What --composition and --from draw is named by its hashes: no lockfile has a say in it.
    """
    from perfusion_registry.operations.job import CompositionSource, PictureSource, Source
    from perfusion_registry.operations.render import RenderOptions
    from perfusion_registry.operations.render import render as run

    given = {"a prompt": prompt.prompt or prompt.scene, "--composition": composition, "--from": source}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise PerfError(f"{' and '.join(names)} cannot go together", hint="choose one")
    from_file = source is not None or composition is not None
    if prompt.files and from_file:
        raise PerfError(
            f"{names[0]} names its concepts by their hashes, so no file can stand in for one",
            where=f"--with {prompt.files[0]}",
            hint="give a prompt instead",
        )
    if prompt.for_base is not None and from_file:
        raise PerfError(
            f"{names[0]} names its base and its concepts by their hashes",
            where=f"--for {prompt.for_base}",
            hint="give a prompt instead",
        )
    drawn: Source
    if source is not None:
        drawn = PictureSource(picture=source, gates=gates.read(), compute=compute.read())
    elif composition is not None:
        drawn = CompositionSource(
            composition=_composition(composition), gates=gates.read(), compute=compute.read()
        )
    else:
        drawn = prompt.read(lockfile, compute, gates)
    options = RenderOptions(
        source=drawn, overrides=picture.read(count, batch), out=out, sheet=sheet, force=force
    )
    with common.open(offline=lockfile.offline, lockfile_alone=not from_file, optional=from_file) as workspace:
        result = run(workspace, options, written=None if common.as_json else console.say)
    if common.as_json:
        console.say_result(result)
    if show:
        typer.launch(result.sheet or result.pictures[0].path)


def _composition(path: Path) -> Composition | Path:
    """The file, or, for `-`, what stdin says."""
    from perfusion_registry.compose.composition import parse_composition

    return parse_composition(sys.stdin.read(), where="stdin") if str(path) == "-" else path


@spread
def sweep(
    prompt: PromptArguments,
    picture: PictureOptions,
    lockfile: LockfileUse,
    compute: Compute,
    common: CommonWithProgress,
    bias: Annotated[
        str | None,
        typer.Option(
            metavar="B,B,...",
            help="The biases, from left to right.",
            show_default=BIASES,
            rich_help_panel=GATES,
        ),
    ] = None,
    temperature: Annotated[
        str | None,
        typer.Option(
            metavar="T,T,...",
            help="The temperatures, from top to bottom.",
            show_default=TEMPERATURES,
            rich_help_panel=GATES,
        ),
    ] = None,
    across: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=V,V,...",
            help="Another option than the bias, such as residual=.5,1; alone it is one row.",
            rich_help_panel=GATES,
        ),
    ] = None,
    down: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=V,V,...", help="Another option than the temperature.", rich_help_panel=GATES
        ),
    ] = None,
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
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The sheet.", show_default="in renders/ of the project"),
    ] = None,
    force: ForceOption = False,
    show: OpenOption = False,
) -> None:
    """Draw a prompt over a grid of gate biases and temperatures.

    All with one seed, as in the paper's Figure 7. Any other option that is a number may take the place of
    either.
    """
    from perfusion_registry.operations.sweep import Grid, SweepOptions
    from perfusion_registry.operations.sweep import sweep as run

    options = SweepOptions(
        grid=Grid.of(
            bias=axis("bias", bias),
            temperature=axis("temperature", temperature),
            across=axis("across", across),
            down=axis("down", down),
            names=concept_names(concept) if concept else None,
        ),
        overrides=picture.read(),
        prompt=prompt.read(lockfile, compute, GateOptions(lock=lock, residual=residual)),
        out=out,
        force=force,
    )
    with common.open(offline=lockfile.offline, lockfile_alone=True) as workspace:
        result = run(workspace, options)
    if common.as_json:
        console.say_result(result)
    else:
        console.say(result.sheet)
    if show:
        typer.launch(result.sheet)
