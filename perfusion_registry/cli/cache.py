"""`perf cache`: the store of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfusion_registry.cli import console
from perfusion_registry.cli.group import group
from perfusion_registry.cli.help import option
from perfusion_registry.cli.options import DryRunOption, Standalone, StandaloneWithProgress

if TYPE_CHECKING:
    from perfusion_registry.operations.cache import CachePruneResult, CacheSizeResult, CacheVerifyResult

_SHOWN = 20  # removals that are told one by one


def commands() -> typer.Typer:
    """The commands of the group."""
    about = "Look after the store of this machine."
    return group(about, dir=show_dir, size=show_size, verify=verify, prune=prune)


def show_dir(output: Standalone) -> None:
    """Print where the store is.

    PERF_CACHE_DIR chooses another place.
    """
    from perfusion_registry.cache_folder import cache_dir
    from perfusion_registry.operations.cache import CacheDirResult

    output.show(CacheDirResult(path=str(cache_dir())), lambda result: console.say(result.path))


def show_size(output: Standalone) -> None:
    """Count the files and bytes of the store, kind by kind."""
    from perfusion_registry.cache_folder import cache_dir
    from perfusion_registry.operations.cache import cache_size

    output.show(cache_size(cache_dir()), _tell_size)


def _tell_size(result: CacheSizeResult) -> None:
    from perfusion_registry.artifact.disk_usage import KINDS

    rows = [
        [row.kind, f"{row.files:,}", console.size(row.size), KINDS.get(row.kind, "")]
        for row in result.kinds
        if row.files
    ]
    if rows:
        console.say_table(["kind", "files", "size", "what it is"], rows, right=["files", "size"])
    console.say(f"{console.size(result.size)} in {result.path}")


def verify(output: StandaloneWithProgress, dry_run: DryRunOption = False) -> None:
    """Hash everything in the store, and set aside what is damaged.

    It can be built or fetched again. Exits with 1 when something is damaged.
    """
    from perfusion_registry.cache_folder import cache_dir
    from perfusion_registry.operations.cache import verify_cache

    result = verify_cache(cache_dir(), dry_run=dry_run, reporter=output.reporter())
    output.show(result, _tell_checked)
    result.raise_if_failed()


def _tell_checked(result: CacheVerifyResult) -> None:
    if result.damaged:
        rows = [[str(Path(row.path).relative_to(result.root)), row.what] for row in result.damaged]
        console.say_table(["file", "what is wrong"], rows)
    else:
        artifacts = console.count(result.artifacts, "artifact")
        console.say(f"The store is whole: {artifacts}, all with their own hash")


def prune(
    output: StandaloneWithProgress,
    older_than: Annotated[
        str | None, option("AGE", "Only what was unused for so long: 30d, 12h, 2w.")
    ] = None,
    max_size: Annotated[
        str | None, option("SIZE", "Only as much as brings the store below this: 2GB, 500MB.")
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Remove what no known lockfile names, the longest unused first.

    Every command that reads a lockfile makes it known; a lockfile that is deleted no longer counts. Waits
    until no other perf is running.
    """
    from perfusion_registry.cache_folder import cache_dir
    from perfusion_registry.operations.cache import prune_cache
    from perfusion_registry.operations.quantities import byte_count, seconds

    most = None if max_size is None else byte_count(max_size)
    result = prune_cache(
        cache_dir(),
        older_than=None if older_than is None else seconds(older_than),
        max_size=most,
        dry_run=dry_run,
        reporter=output.reporter(),
    )
    output.show(result, _tell_pruned)
    if most is not None and result.left > most and not output.as_json:
        console.reporter().warn(
            f"{console.size(result.left)} are left: what lockfiles name, and what registries said, "
            "always stays"
        )


def _tell_pruned(result: CachePruneResult) -> None:
    if not result.removed:
        console.say(f"Nothing to prune: {console.size(result.left)} in use")
        return
    for row in result.removed[:_SHOWN]:
        console.say(f"{row.kind:<10} {Path(row.path).name[:12]}  {console.size(row.size)}")
    if len(result.removed) > _SHOWN:
        console.say(f"... and {len(result.removed) - _SHOWN} more")
    stays = f"; {console.count(result.locked, 'locked artifact')} stayed" if result.locked else ""
    verb = "Would remove" if result.dry_run else "Removed"
    console.say(
        f"{verb} {console.count(len(result.removed), 'file')}, {console.size(result.freed)}{stays}; "
        f"{console.size(result.left)} left"
    )
