"""`perf sync` and `perf vendor`: the bytes that a lockfile names, in the store or in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from perfusion_registry.cli import console
from perfusion_registry.cli.help import argument, flag
from perfusion_registry.cli.options import (
    CommonWithProgress,
    DryRunOption,
    FrozenOption,
    LockedOption,
    OfflineOption,
    RequireSignedOption,
)

if TYPE_CHECKING:
    from perfusion_registry.operations.sync import SyncResult
    from perfusion_registry.operations.vendor import VendorResult


def sync(
    common: CommonWithProgress,
    source: Annotated[
        str | None,
        argument(
            "LOCKFILE",
            "Another lockfile, a file or an http(s) address, whose concepts come to this folder.",
            default="the project's own",
        ),
    ] = None,
    build: Annotated[
        bool, flag("Also build the concepts with a recipe that are not built.", "--build")
    ] = False,
    locked: LockedOption = False,
    frozen: FrozenOption = False,
    offline: OfflineOption = False,
    require_signed: RequireSignedOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Fetch what perfusion.lock names from its registries.

    What is not locked yet is locked first. Nothing is trained, unless --build asks for it.
    """
    from perfusion_registry.operations.sync import SyncOptions, sync_lockfile
    from perfusion_registry.operations.sync import sync as run

    options = SyncOptions(
        locked=locked, frozen=frozen, dry_run=dry_run, build=build, require_signed=require_signed
    )
    if source is not None:
        with common.outside(offline=offline) as workspace:
            result = sync_lockfile(workspace, source, common.project or Path(), options)
    else:
        with common.open(offline=offline, lockfile_alone=True) as workspace:
            result = run(workspace, options)
    common.show(result, lambda result: _tell(result, dry_run=dry_run))


def _tell(result: SyncResult, *, dry_run: bool) -> None:
    if result.changes:
        console.say("Would change perfusion.lock:" if dry_run else "Changed perfusion.lock:")
        for line in result.lines:
            console.say(f"  {line}")
    verb = "Would fetch" if dry_run else "Fetched"
    for block in result.blocks:
        amount = console.size(block.size or 0)
        console.say(f"{verb} {block.name} {block.version} ({amount}, {block.registry})")
    if not result.fetched:
        console.say(f"In sync: {console.count(len(result.present), 'concept')}")
    if result.wrote is not None:
        console.say(f"Wrote {result.wrote}; the concepts are in the store of this machine, {result.store}")
        console.say("Next: perf list, or perf render 'a NAME*'")
    if result.to_build:
        left = result.to_build
        console.say(f"Not built here: {', '.join(left)}. Next: perf build {' '.join(left)}")


def vendor(
    common: CommonWithProgress,
    folder: Annotated[Path, argument("DIR", "The folder; it becomes a registry.")] = Path("vendor"),
    offline: OfflineOption = False,
) -> None:
    """Copy all that perfusion.lock needs into a folder.

    The folder works offline. It is a registry with a lockfile of its own: `perf sync DIR/perfusion.lock` in
    an empty folder brings the very same bytes, and so does a manifest whose [registries] name it.
    """
    from perfusion_registry.operations.vendor import vendor as run

    with common.open(offline=offline, lockfile_alone=True) as workspace:
        result = run(workspace, folder)
    common.show(result, lambda result: _tell_vendored(result, folder))


def _tell_vendored(result: VendorResult, folder: Path) -> None:
    for release in result.copied:
        console.say(f"Copied {release}")
    all_of = len(result.copied) + len(result.present)
    console.say(f"{folder} has all that perfusion.lock needs: {console.count(all_of, 'concept')}")
    console.say(f"Next, wherever it goes: perf sync {folder.as_posix()}/perfusion.lock")
