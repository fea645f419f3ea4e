"""`perf cache`: the store of this machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from perfusion_registry.cli.group import Group
from perfusion_registry.cli.options import DryRunOption, JsonOption, QuietOption
from perfusion_registry.errors import CheckFailedError, PerfError

if TYPE_CHECKING:
    from perfusion_registry.artifact.pruning import Pruning

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_BYTES = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_SHOWN = 20  # removals that are told one by one


def register(app: typer.Typer) -> None:
    """Add the commands."""
    cache = typer.Typer(
        cls=Group, no_args_is_help=True, rich_markup_mode=None, help="Look after the store of this machine."
    )
    cache.command("dir")(show_dir)
    cache.command("size")(show_size)
    cache.command("verify")(verify)
    cache.command("prune")(prune)
    app.add_typer(cache, name="cache")


def show_dir(as_json: JsonOption = False) -> None:
    """Print where the store is.

    PERF_CACHE_DIR chooses another place.
    """
    from perfusion_registry.artifact import cache_dir
    from perfusion_registry.cli import console

    if as_json:
        console.say_json("perf.cache-dir/1", {"path": str(cache_dir())})
    else:
        console.say(str(cache_dir()))


def show_size(as_json: JsonOption = False) -> None:
    """Count the files and bytes of the store, kind by kind."""
    from perfusion_registry.artifact import cache_dir
    from perfusion_registry.artifact.disk_usage import KINDS, disk_usage
    from perfusion_registry.cli import console

    counts = disk_usage(cache_dir())
    total = sum(count.size for count in counts)
    if as_json:
        kinds = [{"kind": count.kind, "files": count.files, "size": count.size} for count in counts]
        console.say_json("perf.cache-size/1", {"path": str(cache_dir()), "size": total, "kinds": kinds})
        return
    rows = [
        [count.kind, f"{count.files:,}", console.size(count.size), KINDS.get(count.kind, "")]
        for count in counts
        if count.files
    ]
    if rows:
        console.say_table(["kind", "files", "size", "what it is"], rows, right=["files", "size"])
    console.say(f"{console.size(total)} in {cache_dir()}")


def verify(dry_run: DryRunOption = False, quiet: QuietOption = False, as_json: JsonOption = False) -> None:
    """Hash everything in the store, and set aside what is damaged.

    It can be built or fetched again.     Exits with 1 when something is damaged.
    """
    from perfusion_registry.artifact import cache_dir
    from perfusion_registry.artifact.verification import verify_store
    from perfusion_registry.cli import console

    root = cache_dir()
    found = verify_store(root, dry_run=dry_run, reporter=console.reporter(quiet))
    if as_json:
        damaged = [
            {
                "path": str(damage.path),
                "what": damage.what,
                "quarantine": str(damage.quarantine) if damage.quarantine else None,
            }
            for damage in found.damaged
        ]
        said = {"artifacts": found.artifacts, "records": found.records, "damaged": damaged}
        console.say_json("perf.cache-verify/1", said)
    elif found.damaged:
        rows = [[str(damage.path.relative_to(root)), damage.what] for damage in found.damaged]
        console.say_table(["file", "what is wrong"], rows)
    else:
        console.say(f"The store is whole: {_count(found.artifacts, 'artifact')}, all with their own hash")
    if found.damaged:
        left = "left where they are" if dry_run else f"moved to {root / 'quarantine'}"
        raise CheckFailedError(
            f"{_count(len(found.damaged), 'damaged file')} in the store, {left}",
            where=str(root),
            hint="run `perf sync` or `perf build` in the projects that use them",
        )


def prune(
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="AGE", help="Only what was unused for so long: 30d, 12h, 2w.", show_default=False
        ),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Only as much as brings the store below this: 2GB, 500MB.",
            show_default=False,
        ),
    ] = None,
    dry_run: DryRunOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove what no known lockfile names, the longest unused first.

    Every command that reads a lockfile makes it known; a lockfile that is deleted no longer counts. Waits
    until no other perf is running.
    """
    from perfusion_registry.artifact import cache_dir
    from perfusion_registry.artifact.pruning import prune as remove
    from perfusion_registry.cli import console

    root = cache_dir()
    done = remove(
        root,
        older_than=None if older_than is None else seconds(older_than),
        max_size=None if max_size is None else byte_count(max_size),
        dry_run=dry_run,
        reporter=console.reporter(quiet),
    )
    freed = sum(one.size for one in done.removed)
    if as_json:
        rows = [{"kind": one.kind, "path": str(one.path), "size": one.size} for one in done.removed]
        said = {
            "dry_run": dry_run,
            "removed": rows,
            "freed": freed,
            "left": done.left,
            "locked": done.locked,
            "lockfiles": [str(path) for path in done.lockfiles],
        }
        console.say_json("perf.cache-prune/1", said)
        return
    _tell(done, freed, dry_run=dry_run)
    wanted = None if max_size is None else byte_count(max_size)
    if wanted is not None and done.left > wanted:
        console.reporter().warn(
            f"{console.size(done.left)} are left: what lockfiles name, and what registries said, always stays"
        )


def seconds(text: str) -> float:
    """An age such as `30d` in seconds."""
    found = re.fullmatch(r"\s*(\d{1,6})\s*([smhdw])\s*", text.lower())
    if found is None:
        raise PerfError(
            f"`{text}` is no age", where="--older-than", hint="write 30d, 12h or 2w (s, m, h, d, w)"
        )
    return float(int(found[1]) * _SECONDS[found[2]])


def byte_count(text: str) -> int:
    """A size such as `2GB` or `1.5GiB` in bytes."""
    found = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,3})?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if found is None or (found[3] and not found[2]):
        raise PerfError(f"`{text}` is no size", where="--max-size", hint="write 2GB, 500MB or 1GiB")
    unit = _BYTES[found[2]]
    return int(float(found[1]) * (1024 ** (len(str(unit)) // 3) if found[3] else unit))


def _tell(done: Pruning, freed: int, *, dry_run: bool) -> None:
    from perfusion_registry.cli import console

    if not done.removed:
        console.say(f"Nothing to prune: {console.size(done.left)} in use")
        return
    for one in done.removed[:_SHOWN]:
        console.say(f"{one.kind:<10} {one.path.name[:12]}  {console.size(one.size)}")
    if len(done.removed) > _SHOWN:
        console.say(f"... and {len(done.removed) - _SHOWN} more")
    stays = f"; {_count(done.locked, 'locked artifact')} stayed" if done.locked else ""
    verb = "Would remove" if dry_run else "Removed"
    console.say(
        f"{verb} {_count(len(done.removed), 'file')}, {console.size(freed)}{stays}; "
        f"{console.size(done.left)} left"
    )


def _count(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number:,} {noun}s"
