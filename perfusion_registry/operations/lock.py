"""`lock`: pin base, covariance and concepts to exact bytes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from perfusion_registry.errors import CheckFailedError, PerfError
from perfusion_registry.methods.files import parse_manifest
from perfusion_registry.operations.plan import ProjectPlan, load_plan
from perfusion_registry.operations.result import InProcess, Result, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import Lockfile, canonical_name, write_lockfile
from perfusion_registry.recipe.document import read_text
from perfusion_registry.recipe.merge import has_conflicts, with_both
from perfusion_registry.recipe.writing import replace_text
from perfusion_registry.resolve import changed_lines, changes_of
from perfusion_registry.resolve import lock as resolve_lock
from perfusion_registry.resolve.choice import choose, must_choose


@dataclass(frozen=True, kw_only=True)
class LockOptions:
    """How to lock. check: write nothing; say whether the lockfile is up to date, asking no registry.

    upgrade: the names, or all, whose locked versions do not count. lowest: the oldest versions that the
    constraints let in. frozen: take the lockfile as it is, unchecked.
    """

    check: bool = False
    upgrade: bool | Collection[str] = False
    lowest: bool = False
    frozen: bool = False
    dry_run: bool = False


class LockResult(Result):
    """`perf lock`. up_to_date: whether it was; not known where it is frozen.

    changes: why it was not, a sentence each. lines: what was written instead, as `changed_lines` lists it.
    """

    schema_: Literal["perf.lock/1"] = named("perf.lock/1")
    up_to_date: bool | None
    changes: tuple[str, ...]
    lockfile: InProcess[Lockfile]
    path: InProcess[Path]
    lines: InProcess[tuple[str, ...]] = ()

    def raise_if_stale(self) -> None:
        """Raise StaleLockfileError where the lockfile was not up to date."""
        if self.up_to_date is False:
            raise stale(self.changes, self.path)


class StaleLockfileError(CheckFailedError):
    """A lockfile that was to be up to date is not."""


class NoLockfileError(CheckFailedError):
    """A lockfile that was to be taken as it is is not there."""


def lock(workspace: Workspace, options: LockOptions) -> LockResult:
    """Write the lockfile that the project should have, or check it.

    What is locked stays while the constraints let it; a registry is asked only when something is missing.
    Merge conflicts in the lockfile are healed, and those in the manifest where both branches only added.
    Raises NoLockfileError for a frozen lockfile that is not there.
    """
    if options.check and (options.upgrade or options.lowest):
        raise PerfError("a check upgrades nothing", hint="leave out --check (or unset PERF_LOCKED)")
    if options.frozen:
        project = workspace.read()
        if project.lockfile is None:
            raise no_lockfile(project.lockfile_path)
        return LockResult(up_to_date=None, changes=(), lockfile=project.lockfile, path=project.lockfile_path)
    if options.check:
        changes, plan = check_fresh(workspace)
        locked = plan.project.lockfile or Lockfile()
        path = plan.project.lockfile_path
        return LockResult(up_to_date=not changes, changes=tuple(changes), lockfile=locked, path=path)
    if not options.dry_run and settle_manifest(workspace):
        workspace.reporter.note("perfusion.toml was in conflict: it has what both branches added")
    locking = relock(workspace, upgrade=options.upgrade, lowest=options.lowest)
    path = locking.plan.project.lockfile_path
    if locking.changes and not options.dry_run:
        write_lockfile(path, locking.after)
    return LockResult(
        up_to_date=not locking.changes,
        changes=tuple(locking.changes),
        lockfile=locking.after,
        path=path,
        lines=tuple(locking.lines),
    )


@dataclass(frozen=True)
class Locking:
    """A project's plan, the lockfile that it should have, and what changes, as sentences."""

    plan: ProjectPlan
    after: Lockfile
    changes: list[str]

    @property
    def lines(self) -> list[str]:
        """What changes, as `changed_lines` lists it."""
        lines = changed_lines(self.plan.project.lockfile, self.after)
        return lines or (["~ its text is as perf writes it"] if self.changes else [])


def relock(workspace: Workspace, *, upgrade: bool | Collection[str] = False, lowest: bool = False) -> Locking:
    """The lockfile that the project should have; nothing is written.

    upgrade, lowest: as in `choose`. Registries are asked only where the lockfile does not have it all. Raises
    PerfError for a base on which no concept can be trained, where the project has concepts to train.
    """
    planned = load_plan(workspace, drop_conflicts=True)
    if planned.plan.tasks:
        from perfusion_registry.base import require_trainable

        require_trainable(planned.base)
    if planned.base.prediction is not None and planned.base.prediction.told_by is None:
        workspace.reporter.note(f"{planned.base.repo}: {planned.base.prediction.sentence}")
    project = planned.project
    if upgrade and upgrade is not True:
        upgrade = frozenset(canonical_name(name) for name in upgrade)
        _check_known(planned, upgrade)
    chosen = None
    if upgrade or lowest or must_choose(project, planned.plan):
        sources = workspace.registries_at(project.root, project.manifest.registries)
        chosen = choose(project, planned.plan, sources, upgrade=upgrade, lowest=lowest)
    after = resolve_lock(project, planned.plan, planned.store, chosen=chosen)
    return Locking(planned, after, changes_of(project, after))


def settle_manifest(workspace: Workspace) -> bool:
    """Give a manifest that a merge left in conflict what both branches added; whether there was a conflict.

    Raises PerfError, and changes nothing, where they did more than add.
    """
    path = workspace.manifest_path
    if not path.is_file() or not has_conflicts(text := read_text(path, "manifest")):
        return False
    made = with_both(text, str(path))
    parse_manifest(made, where=str(path))
    return replace_text(path, made)


def check_fresh(workspace: Workspace, *, download: bool = True) -> tuple[list[str], ProjectPlan]:
    """Why the lockfile of the project is stale, a sentence each; no registry is asked.

    download: whether a base that is not here may be fetched.
    """
    planned = load_plan(workspace, drop_conflicts=True, download=download)
    reasons = must_choose(planned.project, planned.plan)
    after = resolve_lock(planned.project, planned.plan, planned.store)
    reasons += [change for change in changes_of(planned.project, after) if change not in reasons]
    return reasons, planned


def stale(changes: Sequence[str], path: Path) -> StaleLockfileError:
    """The error for a lockfile that was to be as it should."""
    listed = "".join(f"\n  - {change}" for change in changes)
    what = f"the lockfile is not up to date:{listed}"
    return StaleLockfileError(what, where=str(path), hint="run `perf lock`")


def no_lockfile(path: Path) -> NoLockfileError:
    """The error for a lockfile that was to be taken as it is, and is not there."""
    return NoLockfileError("there is no lockfile", where=str(path), hint="run `perf lock`")


def _check_known(planned: ProjectPlan, names: Collection[str]) -> None:
    project = planned.project
    blocks = project.lockfile.concepts if project.lockfile else ()
    known = {*project.manifest.concepts, *(block.name for block in blocks)}
    for name in names:
        if name not in known:
            raise project.unknown(name)
