"""`perf cache`: the store of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfusion_registry.cli import console
from perfusion_registry.cli.group import group
from perfusion_registry.cli.help import option
from perfusion_registry.cli.options import DryRunOption, JsonOption, QuietOption
from perfusion_registry.errors import CheckFailedError

if TYPE_CHECKING:
    from perfusion_registry.operations.cache import CachePruneResult

_SHOWN = 20  # removals that are told one by one


def commands() -> typer.Typer:
    """The commands of the group."""
    about = "Look after the store of this machine."
    return group(about, dir=show_dir, size=show_size, verify=verify, prune=prune)


def show_dir(as_json: JsonOption = False) -> None:
    """Print where the store is.

    PERF_CACHE_DIR chooses another place.
    """
    from perfusion_registry.cache_folder import cache_dir
    from perfusion_registry.operations.cache import CacheDirResult

    result = CacheDirResult(path=str(cache_dir()))
    if as_json:
        console.say_result(result)
    else:
        console.say(result.path)


def show_size(as_json: JsonOption = False) -> None:
    """Count the files and bytes of the store, kind by kind."""
    from perfusion_registry.artifact.disk_usage import KINDS
    from perfusion_registry.cache_folder import cache_dir
    from perfusion_registry.operations.cache import cache_size

    result = cache_size(cache_dir())
    if as_json:
        console.say_result(result)
        return
    rows = [
        [row.kind, f"{row.files:,}", console.size(row.size), KINDS.get(row.kind, "")]
        for row in result.kinds
        if row.files
    ]
    if rows:
        console.say_table(["kind", "files", "size", "what it is"], rows, right=["files", "size"])
    console.say(f"{console.size(result.size)} in {result.path}")


def verify(dry_run: DryRunOption = False, quiet: QuietOption = False, as_json: JsonOption = False) -> None:
    """Hash everything in the store, and set aside what is damaged.

    It can be built or fetched again. Exits with 1 when something is damaged.
    """
    from perfusion_registry.cache_folder import cache_dir
    from perfusion_registry.operations.cache import verify_cache

    root = cache_dir()
    result = verify_cache(root, dry_run=dry_run, reporter=console.reporter(quiet))
    if as_json:
        console.say_result(result)
    elif result.damaged:
        rows = [[str(Path(row.path).relative_to(root)), row.what] for row in result.damaged]
        console.say_table(["file", "what is wrong"], rows)
    else:
        artifacts = console.count(result.artifacts, "artifact")
        console.say(f"The store is whole: {artifacts}, all with their own hash")
    if result.damaged:
        left = "left where they are" if dry_run else f"moved to {root / 'quarantine'}"
        raise CheckFailedError(
            f"{console.count(len(result.damaged), 'damaged file')} in the store, {left}",
            where=str(root),
            hint="run `perf sync` or `perf build` in the projects that use them",
        )


def prune(
    older_than: Annotated[
        str | None, option("AGE", "Only what was unused for so long: 30d, 12h, 2w.")
    ] = None,
    max_size: Annotated[
        str | None, option("SIZE", "Only as much as brings the store below this: 2GB, 500MB.")
    ] = None,
    dry_run: DryRunOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
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
        reporter=console.reporter(quiet),
    )
    if as_json:
        console.say_result(result)
        return
    _tell(result)
    if most is not None and result.left > most:
        console.reporter().warn(
            f"{console.size(result.left)} are left: what lockfiles name, and what registries said, "
            "always stays"
        )


def _tell(result: CachePruneResult) -> None:
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
