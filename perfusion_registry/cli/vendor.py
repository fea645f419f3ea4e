"""`perf vendor`: a folder with all that a lockfile needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perfusion_registry.cli.options import JsonOption, OfflineOption, ProjectOption, QuietOption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("vendor")(vendor)


def vendor(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder; it becomes a registry.")] = Path(
        "vendor"
    ),
    offline: OfflineOption = False,
    project: ProjectOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Copy all that perfusion.lock needs into a folder.

    The folder works offline. It is a registry with a lockfile of its own: `perf sync DIR/perfusion.lock` in
    an empty folder brings the very same bytes, and so does a manifest whose [registries] name it.
    """
    from perfusion_registry.cli import console
    from perfusion_registry.cli.vendoring import vendor_project

    copied, present = vendor_project(project, folder, offline=offline, reporter=console.reporter(quiet))
    if as_json:
        console.say_json("perf.vendor/1", {"folder": str(folder), "copied": copied, "present": present})
        return
    for release in copied:
        console.say(f"Copied {release}")
    count = len(copied) + len(present)
    console.say(
        f"{folder} has all that perfusion.lock needs: {'1 concept' if count == 1 else f'{count} concepts'}"
    )
    console.say(f"Next, wherever it goes: perf sync {folder.as_posix()}/perfusion.lock")
