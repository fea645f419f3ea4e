"""`perf lock`: pin everything to exact bytes."""

from __future__ import annotations

from typing import Annotated

import typer

from perfusion_registry.cli.options import DryRunOption, JsonOption, ProjectOption
from perfusion_registry.errors import CheckFailedError


def register(app: typer.Typer) -> None:
    """Add the command."""
    from perfusion_registry.cli import PROJECT_PANEL

    app.command("lock", rich_help_panel=PROJECT_PANEL)(lock)


def lock(
    check: Annotated[bool, typer.Option("--check", help="Fail if perfusion.lock is not up to date.")] = False,
    dry_run: DryRunOption = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pin base, covariance and concepts in perfusion.lock."""
    from perfusion_registry.cli import console
    from perfusion_registry.cli.planning import survey
    from perfusion_registry.recipe import write_lockfile
    from perfusion_registry.resolve import changes_of
    from perfusion_registry.resolve import lock as make_lock

    found = survey(project, relock=True)
    after = make_lock(found.project, found.plan, found.store)
    changes = changes_of(found.project, after)
    path = found.project.lockfile_path
    if as_json:
        console.say_json("perf.lock/1", {"up_to_date": not changes, "changes": changes})
    if check:
        if changes:
            listed = "".join(f"\n  - {change}" for change in changes)
            raise CheckFailedError(
                f"the lockfile is not up to date:{listed}", where=str(path), hint="run `perf lock`"
            )
    elif changes and not dry_run:
        write_lockfile(path, after)
    if as_json:
        return
    if not changes:
        console.say(f"{path.name} is up to date: {_concepts(len(after.concepts))}")
        return
    console.say(f"{'Would lock' if dry_run else 'Locked'} {_concepts(len(after.concepts))} in {path.name}")
    for change in changes:
        console.say(f"  {change}")


def _concepts(count: int) -> str:
    return "1 concept" if count == 1 else f"{count} concepts"
