"""`perf lock`: pin everything to exact bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perfusion_registry.cli.options import (
    DryRunOption,
    FrozenOption,
    JsonOption,
    LockedOption,
    OfflineOption,
    ProjectOption,
)
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from perfusion_registry.recipe import Lockfile


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("lock")(lock)


def lock(
    check: Annotated[
        bool, typer.Option("--check", help="Fail if perfusion.lock is not up to date, and say why.")
    ] = False,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", "-U", help="Take the newest versions, whatever is locked.")
    ] = False,
    upgrade_package: Annotated[
        list[str] | None,
        typer.Option("--upgrade-package", "-P", metavar="NAME", help="The same for one name. Repeatable."),
    ] = None,
    lowest: Annotated[
        bool, typer.Option("--lowest", help="Take the oldest versions that the constraints let in.")
    ] = False,
    locked: LockedOption = False,
    frozen: FrozenOption = False,
    offline: OfflineOption = False,
    dry_run: DryRunOption = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pin base, covariance and concepts in perfusion.lock.

    What is locked stays while the constraints let it; a registry is asked only when something is missing.
    Merge conflicts in perfusion.lock are healed, and those in perfusion.toml where both branches only added.
    """
    from perfusion_registry.cli import console
    from perfusion_registry.cli.locking import check_fresh, no_lockfile, relock, settle_manifest, stale
    from perfusion_registry.recipe import Lockfile, write_lockfile
    from perfusion_registry.resolve import Project

    check = check or locked
    if check and (upgrade or upgrade_package or lowest):
        raise PerfError("a check upgrades nothing", hint="leave out --check (or unset PERF_LOCKED)")
    if frozen:
        found = Project.find(project)
        if found.lockfile is None:
            raise no_lockfile(str(found.lockfile_path))
        if as_json:
            console.say_json("perf.lock/1", {"up_to_date": None, "changes": []})
        else:
            count = len(found.lockfile.concepts)
            told = "1 concept" if count == 1 else f"{count} concepts"
            console.say(f"{found.lockfile_path.name} is here, unchecked: {told}")
        return
    if check:
        changes, survey = check_fresh(project, offline=offline)
        if as_json:
            console.say_json("perf.lock/1", {"up_to_date": not changes, "changes": changes})
        if changes:
            raise stale(changes, str(survey.project.lockfile_path))
        if not as_json:
            _tell(survey.project.lockfile or Lockfile(), [], "perfusion.lock", done=False, as_json=False)
        return
    if not dry_run and settle_manifest(project):
        console.reporter().note("perfusion.toml was in conflict: it has what both branches added")
    wanted = upgrade or frozenset(upgrade_package or ())
    survey, after, changes = relock(project, upgrade=wanted, lowest=lowest, offline=offline)
    if changes and not dry_run:
        write_lockfile(survey.project.lockfile_path, after)
    _tell(after, changes, survey.project.lockfile_path.name, done=not dry_run, as_json=as_json)


def _tell(after: Lockfile, changes: list[str], name: str, *, done: bool, as_json: bool) -> None:
    from perfusion_registry.cli import console

    if as_json:
        console.say_json("perf.lock/1", {"up_to_date": not changes, "changes": changes})
        return
    count = "1 concept" if len(after.concepts) == 1 else f"{len(after.concepts)} concepts"
    if not changes:
        console.say(f"{name} is up to date: {count}")
        return
    console.say(f"{'Locked' if done else 'Would lock'} {count} in {name}")
    for change in changes:
        console.say(f"  {change}")
