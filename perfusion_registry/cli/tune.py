"""`perf tune`: let pictures decide a prompt's gates and key locks."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfusion_registry.cli import console
from perfusion_registry.cli.drawing import OpenOption, PictureOptions, PromptArgument, WithOption
from perfusion_registry.cli.help import flag, gate_option, option, picture_option
from perfusion_registry.cli.options import CommonWithProgress, Compute, ForceOption, LockfileUse

if TYPE_CHECKING:
    from perfusion_registry.operations.tune import TuneAttempt, TuneResult

_SHOWN = 12  # rows of the table


def tune(
    picture: PictureOptions,
    lockfile: LockfileUse,
    compute: Compute,
    common: CommonWithProgress,
    prompt: PromptArgument = None,
    scene: Annotated[
        str | None,
        option("NAME", "Write the result to this scene of perfusion.toml; without a prompt, tune its own."),
    ] = None,
    images: Annotated[int, option("N", "Draw so many pictures at most.", min=1)] = 72,
    count: Annotated[
        int | None,
        picture_option("N", "Judge on so many seeds.", "--seeds", default="4", min=1, max=100),
    ] = None,
    bias: Annotated[
        str | None, gate_option("B,B,...", "The biases to try.", default="the paper's, by lock")
    ] = None,
    temperature: Annotated[
        str | None, gate_option("T,T,...", "The temperatures to try.", default="0.1,0.15")
    ] = None,
    lock: Annotated[
        str | None, gate_option("LOCK,...", "The key locks to try.", default="all that are possible")
    ] = None,
    residual: Annotated[
        str | None,
        gate_option(
            "R,R,...", "The strengths of residuals to try.", default="0.6 to 1.2, with the gate as it is"
        ),
    ] = None,
    tries: Annotated[
        list[str] | None,
        gate_option(
            "KEY=V,V,...", "The values to try of any option of a concept's method. Repeatable.", "--try"
        ),
    ] = None,
    files: WithOption = None,
    sheet: Annotated[
        Path | None, option("FILE", "Also lay out the pictures before and after, side by side.")
    ] = None,
    dry_run: Annotated[bool, flag("Search, but leave perfusion.toml alone.", "--dry-run")] = False,
    force: ForceOption = False,
    show: OpenOption = False,
) -> None:
    """Choose a prompt's gates, locks and residuals by their pictures.

    Judged by the harmonic mean of image and text similarity of the base's CLIP model, on the same seeds for
    all. Several concepts are tuned in turn; the better half of each round goes on to more seeds.
    """
    from perfusion_registry.operations.tune import TuneOptions, read_choices
    from perfusion_registry.operations.tune import tune as run

    options = TuneOptions(
        prompt=prompt,
        scene=scene,
        choices=read_choices(tries or (), bias=bias, temperature=temperature, lock=lock, residual=residual),
        images=images,
        overrides=picture.read(count, usual=4),
        files=tuple(files or ()),
        sheet=sheet,
        force=force,
        locked=lockfile.locked,
        frozen=lockfile.frozen,
        dry_run=dry_run,
        compute=compute.read(),
    )
    with common.open(offline=lockfile.offline, lockfile_alone=True) as workspace:
        result = run(workspace, options)
    common.show(result, lambda result: _tell(result, files or ()))
    if show and result.sheet is not None:
        typer.launch(result.sheet)


def _tell(result: TuneResult, files: Sequence[Path]) -> None:
    """Show what was tried, and tell what is chosen. files: the artifacts that stood in for what is locked."""
    names = list(result.before.gates)
    shown = list(result.tried[:_SHOWN])
    if result.before not in shown:
        shown.append(result.before)
    several = names if len(names) > 1 else []
    rows = [
        [
            _mark(attempt, result),
            *result.in_words(attempt),
            str(attempt.seeds),
            *(f"{attempt.alike[name]:.3f}" for name in several),
            f"{attempt.image:.3f}",
            f"{attempt.text:.3f}",
            f"{attempt.harmonic:.3f}",
        ]
        for attempt in shown
    ]
    columns = ["seeds", *(f"{name}* alike" for name in several), "image", "text", "harmonic"]
    console.say_table(["", *(f"{name}*" for name in names), *columns], rows, right=columns)
    rest = f", {left} of them not shown" if (left := len(result.tried) - len(shown)) > 0 else ""
    console.say(f"{len(result.tried)} choices tried with {result.drawn} pictures{rest}")
    _tell_choice(result, files)


def _mark(attempt: TuneAttempt, result: TuneResult) -> str:
    if attempt.gates == result.after.gates:
        return "best"
    return "before" if attempt.gates == result.before.gates else ""


def _tell_choice(result: TuneResult, files: Sequence[Path]) -> None:
    """What the choice is, and where it is."""
    if result.after.gates == result.before.gates:
        console.say("Nothing that was tried is better than the gates as they are")
    else:
        gain = result.after.harmonic - result.before.harmonic
        console.say(f"The best is {gain:.3f} better than the gates as they were: {result.spelt}")
    if result.written:
        with_files = [part for file in files for part in ("--with", str(file))]
        again = shlex.join(["perf", "render", "--scene", str(result.scene), *with_files])
        console.say(f"Wrote scene {result.scene} to perfusion.toml; next: {again}")
    elif result.scene is None:
        console.say("To keep it, name a scene: --scene NAME")
