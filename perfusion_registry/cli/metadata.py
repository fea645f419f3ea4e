"""`perf metadata`: the whole project as JSON, for tools."""

from __future__ import annotations

from typing import Annotated

import typer

from perfusion_registry.cli.options import JsonOption, ProjectOption
from perfusion_registry.errors import PerfError

FORMATS = (1,)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("metadata")(metadata)


def metadata(
    format_version: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="The format, so that a tool gets what it knows.", show_default="newest"
        ),
    ] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the project as JSON, for tools.

    Manifest, lockfile, base, scenes, and each concept with its paths and its state.

    Its schema is schemas/metadata.schema.json. Within one format, keys are only ever added.
    """
    from perfusion_registry.cli import console
    from perfusion_registry.cli.description import describe

    if format_version is None:
        console.reporter(quiet=True).warn(
            f"give --format-version {FORMATS[-1]}, or a newer perf may print a format that you do not know"
        )
    elif format_version not in FORMATS:
        raise PerfError(
            f"perf knows no metadata format {format_version}",
            where="--format-version",
            hint=f"give {FORMATS[-1]}",
        )
    said = describe(project).model_dump(mode="json", by_alias=True)
    console.say_json(said.pop("schema"), said)
