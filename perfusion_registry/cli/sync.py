"""`perf sync`: have the bytes that the lockfile names, and only those."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfusion_registry.cli.options import (
    DryRunOption,
    FrozenOption,
    JsonOption,
    LockedOption,
    OfflineOption,
    ProjectOption,
    QuietOption,
    RequireSignedOption,
)

if TYPE_CHECKING:
    from perfusion_registry.cli.syncing import Synced


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sync")(sync)


def sync(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="LOCKFILE",
            help="Another lockfile, a file or an http(s) address, whose concepts come to this folder.",
            show_default="the project's own",
        ),
    ] = None,
    build: Annotated[
        bool, typer.Option("--build", help="Also build the concepts with a recipe that are not built.")
    ] = False,
    locked: LockedOption = False,
    frozen: FrozenOption = False,
    offline: OfflineOption = False,
    require_signed: RequireSignedOption = False,
    dry_run: DryRunOption = False,
    project: ProjectOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch what perfusion.lock names from its registries.

    What is not locked yet is locked first. Nothing is trained, unless --build asks for it.
    """
    from perfusion_registry.cli import console
    from perfusion_registry.cli.syncing import sync_elsewhere, sync_project

    reporter = console.reporter(quiet)
    if source is not None:
        done = sync_elsewhere(
            source,
            project or Path(),
            offline=offline,
            dry_run=dry_run,
            reporter=reporter,
            require_signed=require_signed,
        )
    else:
        done = sync_project(
            project,
            locked=locked,
            frozen=frozen,
            offline=offline,
            dry_run=dry_run,
            build=build,
            reporter=reporter,
            require_signed=require_signed,
        )
    _tell(done, dry_run=dry_run, as_json=as_json)


def _tell(done: Synced, *, dry_run: bool, as_json: bool) -> None:
    from perfusion_registry.cli import console

    if as_json:
        console.say_json(
            "perf.sync/1",
            {
                "fetched": [f"{block.name} {block.version}" for block in done.fetched],
                "present": done.present,
                "to_build": done.to_build,
                "changes": done.changes,
            },
        )
        return
    if done.changes:
        console.say("Would change perfusion.lock:" if dry_run else "Changed perfusion.lock:")
        for change in done.changes:
            console.say(f"  {change}")
    for block in done.fetched:
        said = "Would fetch" if dry_run else "Fetched"
        console.say(
            f"{said} {block.name} {block.version} ({console.size(block.size or 0)}, {block.registry})"
        )
    if not done.fetched:
        count = len(done.present)
        console.say(f"In sync: {'1 concept' if count == 1 else f'{count} concepts'}")
    if done.to_build:
        names = " ".join(done.to_build)
        console.say(f"Not built here: {', '.join(done.to_build)}. Next: perf build {names}")
