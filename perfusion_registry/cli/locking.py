"""Locking a project, for the commands that do: what the lockfile would be, and whether it is."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.cli.planning import Survey, survey
from perfusion_registry.cli.registries import sources_of
from perfusion_registry.errors import CheckFailedError
from perfusion_registry.recipe import MANIFEST_NAME, Manifest, canonical_name
from perfusion_registry.recipe.document import parse_toml, read_text, validate
from perfusion_registry.recipe.merge import has_conflicts, with_both
from perfusion_registry.recipe.writing import replace_text
from perfusion_registry.resolve import changes_of, lock
from perfusion_registry.resolve.choice import choose, must_choose

if TYPE_CHECKING:
    from perfusion_registry.recipe import Lockfile


def relock(
    start: Path | None,
    *,
    upgrade: bool | Collection[str] = False,
    lowest: bool = False,
    offline: bool = False,
) -> tuple[Survey, Lockfile, list[str]]:
    """The project of `start`, the lockfile that it should have, and what changes. Nothing is written.

    upgrade, lowest: as in `choose`. Registries are asked only where the lockfile does not have it all.
    """
    found = survey(start, relock=True, offline=offline)
    project = found.project
    if upgrade and upgrade is not True:
        upgrade = frozenset(canonical_name(name) for name in upgrade)
        _check_known(found, upgrade)
    chosen = None
    if upgrade or lowest or must_choose(project, found.plan):
        sources = sources_of(project.manifest.registries, project.root, offline=offline)
        chosen = choose(project, found.plan, sources, upgrade=upgrade, lowest=lowest)
    after = lock(project, found.plan, found.store, chosen=chosen)
    return found, after, changes_of(project, after)


def settle_manifest(start: Path | None) -> bool:
    """Give a manifest that a merge left in conflict what both branches added; whether there was a conflict.

    Raises PerfError, and changes nothing, where they did more than add.
    """
    begin = (start or Path()).absolute()
    folders = (folder for folder in (begin, *begin.parents) if (folder / MANIFEST_NAME).is_file())
    path = next(folders, begin) / MANIFEST_NAME
    if not path.is_file() or not has_conflicts(text := read_text(path, "manifest")):
        return False
    made = with_both(text, str(path))
    data = parse_toml(made, str(path), "manifest")
    validate(data, Manifest, text=made, where=str(path), kind="manifest")
    return replace_text(path, made)


def check_fresh(start: Path | None, *, offline: bool = False) -> tuple[list[str], Survey]:
    """Why the lockfile of the project of `start` is stale, a sentence each; no registry is asked."""
    found = survey(start, relock=True, offline=offline)
    why = must_choose(found.project, found.plan)
    after = lock(found.project, found.plan, found.store)
    why += [change for change in changes_of(found.project, after) if change not in why]
    return why, found


def stale(changes: list[str], where: str) -> CheckFailedError:
    """The error for a lockfile that was to be as it should."""
    listed = "".join(f"\n  - {change}" for change in changes)
    return CheckFailedError(f"the lockfile is not up to date:{listed}", where=where, hint="run `perf lock`")


def no_lockfile(where: str) -> CheckFailedError:
    """The error for a lockfile that was to be taken as it is, and is not there."""
    return CheckFailedError("there is no lockfile", where=where, hint="run `perf lock`")


def _check_known(found: Survey, names: Collection[str]) -> None:
    blocks = found.project.lockfile.concepts if found.project.lockfile else ()
    known = {*found.project.manifest.concepts, *(block.name for block in blocks)}
    for name in names:
        if name not in known:
            raise found.project.unknown(name)
