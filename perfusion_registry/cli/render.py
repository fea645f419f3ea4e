"""`perf render` and `perf sweep`: draw prompts with their concepts."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from perfusion_registry.cli import console, options
from perfusion_registry.cli.drawing import (
    GateOptions,
    LockOption,
    OpenOption,
    PictureOptions,
    PromptArguments,
    ResidualOption,
)
from perfusion_registry.cli.help import PICTURE, flag, gate_option, option, picture_option
from perfusion_registry.cli.options import CommonWithProgress, Compute, ForceOption, LockfileUse, ShardOption
from perfusion_registry.cli.start import StartOptions

BIASES, TEMPERATURES = "relative ones: 0.6,0.85,0.95,1.05,1.15", "0.1,0.15"
"""What `perf sweep` says of its defaults."""


def render(
    prompt: PromptArguments,
    gates: GateOptions,
    picture: PictureOptions,
    start: StartOptions,
    lockfile: LockfileUse,
    compute: Compute,
    common: CommonWithProgress,
    machines: options.OtherMachines,
    prompts: Annotated[
        Path | None,
        option(
            "FILE",
            "Draw each line of a file, with --seed, --steps, --size, ... behind a prompt where it "
            "needs its own; - is standard input.",
        ),
    ] = None,
    composition: Annotated[
        Path | None, option("FILE", "Draw a composition that `perf compose` wrote.")
    ] = None,
    source: Annotated[Path | None, option("IMAGE", "Draw again what made this picture.", "--from")] = None,
    count: Annotated[int | None, picture_option("N", "How many seeds.", default="1", min=1)] = None,
    batch: Annotated[int | None, picture_option("N", "Pictures to draw at once.", default="1")] = None,
    upscale: Annotated[
        bool, flag("Enlarge with the base's upscaler, if it has one.", "--upscale", panel=PICTURE)
    ] = False,
    out: Annotated[
        Path | None,
        option("PATH", "A folder, or a .png, .jpg or .webp file.", default="renders/ of the project"),
    ] = None,
    picture_format: Annotated[
        str | None, option("F", "Of pictures: png, jpeg or webp.", "--format", default="png")
    ] = None,
    quality: Annotated[
        int | None, option("Q", "Of JPEG and WebP, 1 to 100; WebP's 100 loses nothing.", default="90")
    ] = None,
    sheet: Annotated[
        Path | None, option("FILE", "Also lay out a contact sheet with the reference images.")
    ] = None,
    force: ForceOption = False,
    shard: ShardOption = None,
    show: OpenOption = False,
) -> None:
    """Draw a prompt with its concepts.

    The files' names go to stdout. A picture carries all that made it, and --from draws it again to the pixel.
    What --composition and --from draw is named by its hashes: no lockfile has a say in it.
    """
    from perfusion_registry.operations.render import drawing_of
    from perfusion_registry.operations.sources import read_source
    from perfusion_registry.render.formats import read_format

    how: dict[str, Any] = {
        "overrides": replace(picture.read(count, batch), upscale=upscale or None, **start.read()),
        "out": out,
        "sheet": sheet,
        "force": force,
        "format": read_format(picture_format),
        "quality": quality,
        "cluster": machines.read(),
    }
    drawn = read_source(
        prompt.prompt,
        prompt.read_how(lockfile, compute, gates),
        prompts=prompts,
        composition=composition,
        picture=source,
        shard=shard,
        stdin=lambda: sys.stdin.buffer.read(),
    )
    draw = drawing_of(drawn, **how)
    from_file = source is not None or composition is not None
    with common.open(offline=lockfile.offline, lockfile_alone=not from_file, optional=from_file) as workspace:
        result = draw(workspace, None if common.as_json else console.say)
    common.show(result)
    if show and (first := result.sheet or result.first) is not None:
        typer.launch(first)


def sweep(
    prompt: PromptArguments,
    picture: PictureOptions,
    lockfile: LockfileUse,
    compute: Compute,
    common: CommonWithProgress,
    bias: Annotated[
        str | None, gate_option("B,B,...", "The biases, from left to right.", default=BIASES)
    ] = None,
    temperature: Annotated[
        str | None,
        gate_option("T,T,...", "The temperatures, from top to bottom.", default=TEMPERATURES),
    ] = None,
    across: Annotated[
        str | None,
        gate_option(
            "KEY=V,V,...", "Another option than the bias, such as residual=.5,1; alone it is one row."
        ),
    ] = None,
    down: Annotated[str | None, gate_option("KEY=V,V,...", "Another option than the temperature.")] = None,
    concept: Annotated[
        list[str] | None, gate_option("NAME", "Vary this concept's gate. Repeatable.", default="all")
    ] = None,
    lock: LockOption = None,
    residual: ResidualOption = None,
    out: Annotated[Path | None, option("FILE", "The sheet.", default="in renders/ of the project")] = None,
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
        grid=Grid.read(bias=bias, temperature=temperature, across=across, down=down, names=concept or None),
        overrides=picture.read(),
        prompt=prompt.read(lockfile, compute, GateOptions(lock=lock, residual=residual)),
        out=out,
        force=force,
    )
    with common.open(offline=lockfile.offline, lockfile_alone=True) as workspace:
        result = run(workspace, options)
    common.show(result, lambda result: console.say(result.sheet))
    if show:
        typer.launch(result.sheet)
