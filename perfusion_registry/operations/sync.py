"""`sync`: have the bytes that a lockfile names, and only those."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from perfusion_registry.errors import CheckFailedError, PerfError
from perfusion_registry.operations.building import build_plan
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.elsewhere import folder_of, read_lockfile, registries_beside, seen_from
from perfusion_registry.operations.lock import check_fresh, no_lockfile, relock, stale
from perfusion_registry.operations.plan import load_plan
from perfusion_registry.operations.result import InProcess, Result, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.operations.yanked import index_files, warn_of_yanked
from perfusion_registry.recipe import LOCKFILE_NAME, MANIFEST_NAME, LockedConcept, Lockfile, write_lockfile
from perfusion_registry.recipe.lockfile_text import dump_lockfile
from perfusion_registry.recipe.name import Name
from perfusion_registry.recipe.writing import make_folder, replace_bytes
from perfusion_registry.resolve import ProjectFolder
from perfusion_registry.resolve.fetch import fetch, locked_release
from perfusion_registry.resolve.root_requirements import local_concepts
from perfusion_registry.resolve.sources import Sources
from perfusion_registry.resolve.staleness import base_unmet, covariance_unmet, unmet
from perfusion_registry.sync_stamp import ProjectFiles, save_stamp
from perfusion_registry.trust import SignaturePolicy


@dataclass(frozen=True, kw_only=True)
class SyncOptions:
    """How to sync. locked: raise StaleLockfileError where the lockfile would change.

    frozen: take it as it is.

    build: also build the concepts that only a recipe can make. require_signed: refuse releases without a
    signature, those that are in the store already among them.
    """

    locked: bool = False
    frozen: bool = False
    dry_run: bool = False
    build: bool = False
    require_signed: bool = False


class SyncResult(Result):
    """`perf sync`. fetched: `NAME VERSION`. to_build: what only a recipe can make.

    changes, lines: of the lockfile, as in `LockResult`. store: the folder that fetched concepts are in.
    wrote: the lockfile that was not there before.
    """

    schema_: Literal["perf.sync/1"] = named("perf.sync/1")
    fetched: tuple[str, ...]
    present: tuple[Name, ...]
    to_build: tuple[Name, ...]
    changes: tuple[str, ...]
    blocks: InProcess[tuple[LockedConcept, ...]]
    lines: InProcess[tuple[str, ...]] = ()
    store: InProcess[Path]
    wrote: InProcess[Path | None] = None


@dataclass
class _Progress:
    """What a sync has done so far."""

    store: Path
    wrote: Path | None = None
    fetched: list[LockedConcept] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    to_build: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def result(self) -> SyncResult:
        return SyncResult(
            fetched=tuple(f"{block.name} {block.version}" for block in self.fetched),
            present=tuple(self.present),
            to_build=tuple(self.to_build),
            changes=tuple(self.changes),
            blocks=tuple(self.fetched),
            lines=tuple(self.lines),
            store=self.store,
            wrote=self.wrote,
        )


def sync(workspace: Workspace, options: SyncOptions) -> SyncResult:
    """Bring the store to what the project's lockfile names; the lockfile to what the manifest asks for.

    What is not locked yet is locked first. Nothing is trained, unless the options ask for it.
    """
    project = workspace.read()
    if project.lockfile is None and options.frozen:
        raise no_lockfile(project.lockfile_path)
    done = _Progress(workspace.store.root)
    lockfile = project.lockfile
    if not options.frozen and project.manifest_path.is_file():
        done.changes = _unmet(workspace, project, locked=options.locked)
        if done.changes:
            lockfile = _relocked(workspace, project, done, options)
    lockfile = lockfile or Lockfile()
    sources = workspace.registries(project, lockfile)
    signatures = workspace.signatures(project.root, require=options.require_signed)
    _fetch(workspace, lockfile, sources, signatures, done, project.root, dry_run=options.dry_run)
    if options.build and done.to_build and not options.dry_run:
        _build(workspace, done, locked=options.locked)
    checked = not options.frozen or not project.manifest_path.is_file()
    if checked and not options.dry_run and not done.to_build:
        _save_stamp(workspace, project.root)
    return done.result()


def sync_lockfile(workspace: Workspace, source: str, folder: Path, options: SyncOptions) -> SyncResult:
    """Fetch exactly the concepts of a lockfile from elsewhere; `folder` then has it, and draws with it alone.

    source: a file, or an http(s) address. A registry that lies beside it (`perf vendor`) is named as seen
    from `folder`; else the lockfile is taken as it is, byte for byte. Raises PerfError where the folder holds
    a project of its own, and CheckFailedError, when all else is fetched, for concepts that only their recipes
    could build.
    """
    lockfile, data = read_lockfile(source, offline=workspace.offline)
    seen = seen_from(folder, source, lockfile)
    if seen != lockfile:
        data = dump_lockfile(seen).encode()
    target = folder / LOCKFILE_NAME
    if (folder / MANIFEST_NAME).exists() or (target.exists() and target.read_bytes() != data):
        raise PerfError(
            "there is a project here already, and its lockfile would be replaced",
            where=str(folder.absolute()),
            hint="go to an empty folder, or name one: `--project DIR`",
        )
    ProjectFolder.of_lockfile(folder.absolute(), lockfile)  # one without a base is refused at once
    done = _Progress(workspace.store.root)
    sources = registries_beside(workspace, source, lockfile)
    signatures = workspace.signatures(folder_of(source), require=options.require_signed)
    _fetch(workspace, lockfile, sources, signatures, done, folder_of(source), dry_run=options.dry_run)
    if not options.dry_run:
        make_folder(folder)
        if not target.exists():
            replace_bytes(target, data)
            done.wrote = target
        workspace.keep(target)
        _save_stamp(workspace, folder)
    done.to_build += [block.name for block in lockfile.concepts if _own_pack(block)]
    if done.to_build:
        listed = ", ".join(f"`{name}`" for name in done.to_build)
        raise CheckFailedError(
            f"a lockfile alone cannot bring {listed}: only the recipe could build it",
            where=source,
            hint="publish it to a registry (`perf publish`), take it from there, and lock again",
        )
    return done.result()


def _unmet(workspace: Workspace, project: ProjectFolder, *, locked: bool) -> list[str]:
    """Why the lockfile is not the project's; `locked` looks at images and options too, if the base is here.

    They are not for a sync to lock, and a machine that only fetches needs no base.
    """
    reasons = unmet(project, local_concepts(project)) + base_unmet(project) + covariance_unmet(project)
    if reasons or not locked:
        return reasons
    try:
        workspace.base(project, download=False)
    except PerfError:
        return []
    return check_fresh(workspace, download=False)[0]


def _relocked(
    workspace: Workspace, project: ProjectFolder, done: _Progress, options: SyncOptions
) -> Lockfile:
    if options.locked:
        raise stale(done.changes, project.lockfile_path)
    locking = relock(workspace)
    done.changes, done.lines = locking.changes, locking.lines
    if done.changes and not options.dry_run:
        write_lockfile(project.lockfile_path, locking.after)
    return locking.after


def _fetch(
    workspace: Workspace,
    lockfile: Lockfile,
    sources: Sources,
    signatures: SignaturePolicy,
    done: _Progress,
    root: Path,
    *,
    dry_run: bool,
) -> None:
    """Fetch what is not in the store, whole, and say what no registry has, and what is yanked."""
    store = workspace.store
    for block in lockfile.concepts:
        if _own_pack(block) or (block.sha256 is not None and store.has(block.sha256)):
            done.present.append(block.name)
        elif block.registry is not None:
            done.fetched.append(block)
        else:
            done.to_build.append(block.name)
    if signatures.require:
        for block in lockfile.concepts:
            if block.registry is not None:
                signatures(*locked_release(block, sources))
    if done.fetched and not dry_run:
        fetch(done.fetched, store, sources, approve=signatures, reporter=workspace.reporter)
    warn_of_yanked(workspace, root, lockfile.concepts)
    if not dry_run:
        signatures.remember()


def _build(workspace: Workspace, done: _Progress, *, locked: bool) -> None:
    planned = load_plan(workspace, done.to_build)
    build_plan(planned, ComputeOptions(), locked=locked, reporter=workspace.reporter)
    done.present = sorted([*done.present, *done.to_build])
    done.to_build = []


def _save_stamp(workspace: Workspace, folder: Path) -> None:
    """Let the next sync be instant, if the files are still those of this one."""
    files = ProjectFiles.find(os.fspath(folder))
    if files is None:
        return
    try:
        digest = files.digest()
        project = ProjectFolder.open(folder.absolute())
        if files.digest() != digest or project.lockfile is None:
            return
    except OSError:
        return
    store, blocks = workspace.store, project.lockfile.concepts
    recipes = [project.recipe_path(name) for name in project.local()]
    blobs = [store.path(block.sha256) for block in blocks if block.sha256 and not _own_pack(block)]
    covariance = project.manifest.project.covariance
    matrices = [project.root / covariance] if covariance is not None else []
    paths = [os.fspath(path) for path in (*recipes, *matrices, *blobs, *index_files(project.root, blocks))]
    save_stamp(files, os.fspath(store.root), [block.name for block in blocks], paths, digest)


def _own_pack(block: LockedConcept) -> bool:
    return block.kind == "pack" and block.registry is None
