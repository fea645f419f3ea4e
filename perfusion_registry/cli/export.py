"""`perf export`, `perf link`: concepts as files that other programs read, where these look."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from perfusion_registry.cli import console
from perfusion_registry.cli.help import argument, flag, option
from perfusion_registry.cli.options import BASE_HELP, Common, CommonWithProgress, Compute, ForceOption

if TYPE_CHECKING:
    from perfusion_registry.operations.export import ExportResult
    from perfusion_registry.operations.link import LinkResult


def export(
    common: CommonWithProgress,
    compute: Compute,
    name: Annotated[str, argument("NAME", "The concept.")],
    form: Annotated[str, option("lora|textual-inversion", "What to write.", "--as")],
    base: Annotated[str | None, option("BASE", BASE_HELP, default="the project's")] = None,
    covariance: Annotated[
        Path | None, option("C", "Of that base, where the concept is transferred to it.", "--covariance")
    ] = None,
    word: Annotated[
        str | None, option("WORD", "What prompts will call its token.", default="perf-NAME")
    ] = None,
    out: Annotated[Path | None, option("DIR", "Where to write.", "--out", "-o", default="exports")] = None,
    force: ForceOption = False,
) -> None:
    """Write a concept as a LoRA or a textual inversion.

    Other programs know no gates: what leaves is the token, and the ungated edit of one base. Two pictures
    of both are drawn, and how far they are from the concept's own is told, and written into the files.
    """
    from perfusion_registry.operations.export import ExportOptions
    from perfusion_registry.operations.export import export as run

    options = ExportOptions(
        name=name,
        form=form,  # type: ignore[arg-type]
        base=base,
        covariance=covariance,
        word=word,
        out=out,
        force=force,
        compute=compute.read(),
    )
    with common.open() as workspace:
        result = run(workspace, options)
    common.show(result, _tell_export)


def _tell_export(result: ExportResult) -> None:
    for file in result.files:
        held = "the LoRA" if file.holds == "lora" else "the token"
        console.say(f"Wrote {file.path} ({console.size(file.size)}): {held}")
    console.say(result.sentence)
    console.say(f'{result.for_base}. Prompts call it as in "{result.prompt}"')
    console.say("Next: `perf link FOLDER`, of a web UI or of ComfyUI")


def link(
    common: Common,
    folder: Annotated[Path, argument("FOLDER", "Of ComfyUI, A1111, Forge or SwarmUI.")],
    source: Annotated[
        Path | None, option("DIR", "Where the exports are.", "--from", default="exports")
    ] = None,
    copy: Annotated[bool, flag("Copy the files instead of linking to them.", "--as-copies")] = False,
    force: ForceOption = False,
) -> None:
    """Put exports where web UIs and ComfyUI look."""
    from perfusion_registry.operations.link import LinkOptions
    from perfusion_registry.operations.link import link as run

    with common.open(optional=True) as workspace:
        result = run(workspace, LinkOptions(folder=folder, source=source, copy=copy, force=force))
    common.show(result, _tell_link)


def _tell_link(result: LinkResult) -> None:
    console.say(f"{result.folder} is of {result.program}")
    for file in result.files:
        told = {"linked": "Linked", "copied": "Copied", "there": "As it is:"}[file.how]
        console.say(f"{told} {file.path}")
