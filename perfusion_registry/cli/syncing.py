"""Syncing: from a project, or a lockfile from elsewhere, to a store that has what is locked."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin

from perfusion_registry.artifact import Store, cache_dir
from perfusion_registry.artifact.lockfiles import note_lockfile
from perfusion_registry.cli.registries import sources_of
from perfusion_registry.errors import CheckFailedError, PerfError
from perfusion_registry.recipe import LOCKFILE_NAME, MANIFEST_NAME, LockedConcept, Lockfile, write_lockfile
from perfusion_registry.recipe.document import LARGEST_FILE
from perfusion_registry.recipe.lockfile import REGISTRY
from perfusion_registry.recipe.lockfile_text import dump_lockfile, parse_lockfile
from perfusion_registry.recipe.writing import make_folder, replace_bytes
from perfusion_registry.registries.registry import Registry
from perfusion_registry.reporter import Reporter
from perfusion_registry.resolve import Project
from perfusion_registry.resolve.fetch import fetch, locked_release
from perfusion_registry.resolve.sources import Sources
from perfusion_registry.resolve.staleness import base_unmet, covariance_unmet, unmet
from perfusion_registry.resolve.wishes import local_concepts
from perfusion_registry.synced import Place, remember
from perfusion_registry.trust import KnownKeys, SignaturePolicy
from perfusion_registry.trust.known import keys_path


@dataclass
class Synced:
    """What a sync did. to_build: what only a recipe can make. changes: of the lockfile."""

    fetched: list[LockedConcept] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    to_build: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)


def sync_project(
    start: Path | None,
    *,
    locked: bool,
    frozen: bool,
    offline: bool,
    dry_run: bool,
    build: bool,
    reporter: Reporter,
    require_signed: bool = False,
) -> Synced:
    """Bring the store to what the project's lockfile names; the lockfile to what the manifest asks for.

    locked: raise CheckFailedError where the lockfile would change. frozen: take it as it is. require_signed:
    refuse releases without a signature, those that are in the store already among them.
    """
    project = Project.find(start, lock_alone=True)
    if project.lockfile is None and frozen:
        from perfusion_registry.cli.locking import no_lockfile

        raise no_lockfile(str(project.lockfile_path))
    done = Synced()
    lockfile = project.lockfile
    if not frozen and project.manifest_path.is_file():
        done.changes = _unmet(project, start, locked=locked)
        if done.changes:
            lockfile = _relocked(start, project, done, locked=locked, offline=offline, dry_run=dry_run)
    lockfile = lockfile or Lockfile()
    store = Store(cache_dir())
    note_lockfile(store.root, project.lockfile_path)
    registries = project.manifest.registries or _addresses(lockfile)
    sources = sources_of(registries, project.root, offline=offline)
    keeper = SignaturePolicy(KnownKeys(keys_path()), project.root, require=require_signed)
    _bring(lockfile, store, sources, done, dry_run=dry_run, keeper=keeper, reporter=reporter)
    if build and done.to_build and not dry_run:
        _build(start, done, locked=locked, offline=offline, reporter=reporter)
    checked = not frozen or not project.manifest_path.is_file()
    if checked and not dry_run and not done.to_build:
        _remember(start, store)
    return done


def sync_elsewhere(
    source: str,
    folder: Path,
    *,
    offline: bool,
    dry_run: bool,
    reporter: Reporter,
    require_signed: bool = False,
) -> Synced:
    """Fetch exactly the concepts of a lockfile from elsewhere; `folder` then has it, and draws with it alone.

    source: a file, or an http(s) address. A registry that lies beside it (`perf vendor`) is named as seen
    from `folder`; else the lockfile is taken as it is, byte for byte. Raises PerfError where the folder holds
    a project of its own, and CheckFailedError, when all else is fetched, for concepts that only their recipes
    could build.
    """
    data = _read(source, offline=offline)
    try:
        lockfile = parse_lockfile(data.decode(), source)
    except UnicodeDecodeError as error:
        raise PerfError("the lockfile is not UTF-8 text", where=source) from error
    here = _seen_from(folder, source, lockfile)
    if here != lockfile:
        data = dump_lockfile(here).encode()
    target = folder / LOCKFILE_NAME
    if (folder / MANIFEST_NAME).exists() or (target.exists() and target.read_bytes() != data):
        raise PerfError(
            "there is a project here already, and its lockfile would be replaced",
            where=str(folder.absolute()),
            hint="go to an empty folder, or name one: `--project DIR`",
        )
    Project.of_lockfile(folder.absolute(), lockfile)  # one without a base is refused at once
    store = Store(cache_dir())
    done = Synced()
    sources = _sources_elsewhere(source, lockfile, offline=offline)
    beside = Path() if _is_address(source) else Path(source).absolute().parent
    keeper = SignaturePolicy(KnownKeys(keys_path()), beside, require=require_signed)
    _bring(lockfile, store, sources, done, dry_run=dry_run, keeper=keeper, reporter=reporter)
    if not dry_run:
        make_folder(folder)
        if not target.exists():
            replace_bytes(target, data)
        note_lockfile(store.root, target)
        _remember(folder, store)
    done.to_build += [block.name for block in lockfile.concepts if _own_pack(block)]
    if done.to_build:
        named = ", ".join(f"`{name}`" for name in done.to_build)
        raise CheckFailedError(
            f"a lockfile alone cannot bring {named}: only the recipe could build it",
            where=source,
            hint="publish it to a registry (`perf publish`), take it from there, and lock again",
        )
    return done


def _unmet(project: Project, start: Path | None, *, locked: bool) -> list[str]:
    """Why the lockfile is not the project's; `locked` looks at images and options too, if the base is here.

    They are not for a sync to lock, and a machine that only fetches needs no base.
    """
    told = unmet(project, local_concepts(project)) + base_unmet(project) + covariance_unmet(project)
    if told or not locked:
        return told
    from perfusion_registry.base import describe_base
    from perfusion_registry.cli.locking import check_fresh

    try:
        describe_base(project.manifest.project.base, root=project.root, allow_download=False)
    except PerfError:
        return []
    return check_fresh(start, offline=True)[0]


def _relocked(
    start: Path | None, project: Project, done: Synced, *, locked: bool, offline: bool, dry_run: bool
) -> Lockfile:
    from perfusion_registry.cli.locking import relock, stale

    if locked:
        raise stale(done.changes, str(project.lockfile_path))
    survey, after, done.changes = relock(start, offline=offline)
    if done.changes and not dry_run:
        write_lockfile(survey.project.lockfile_path, after)
    return after


def _bring(
    lockfile: Lockfile,
    store: Store,
    sources: Sources,
    done: Synced,
    *,
    dry_run: bool,
    keeper: SignaturePolicy,
    reporter: Reporter,
) -> None:
    """Fetch what is not in the store, whole, and say what no registry has."""
    for block in lockfile.concepts:
        if _own_pack(block) or (block.sha256 is not None and store.has(block.sha256)):
            done.present.append(block.name)
        elif block.registry is not None:
            done.fetched.append(block)
        else:
            done.to_build.append(block.name)
    if keeper.require:
        for block in lockfile.concepts:
            if block.registry is not None:
                keeper(*locked_release(block, sources))
    if done.fetched and not dry_run:
        fetch(done.fetched, store, sources, approve=keeper, reporter=reporter)
    if not dry_run:
        keeper.remember()


def _build(start: Path | None, done: Synced, *, locked: bool, offline: bool, reporter: Reporter) -> None:
    from perfusion_registry.cli.construction import Computing, construct
    from perfusion_registry.cli.planning import survey

    construct(survey(start, done.to_build, offline=offline), Computing(), locked=locked, reporter=reporter)
    done.present = sorted([*done.present, *done.to_build])
    done.to_build = []


def _remember(start: Path | None, store: Store) -> None:
    """Let the next sync be instant, if the files are still those of this one."""
    place = Place.find(os.fspath(start) if start else None)
    if place is None:
        return
    try:
        digest = place.digest()
        project = Project.find(start, lock_alone=True)
        if place.digest() != digest or project.lockfile is None:
            return
    except OSError:
        return
    blocks = project.lockfile.concepts
    recipes = [project.recipe_path(name) for name in project.local()]
    blobs = [store.path(block.sha256) for block in blocks if block.sha256 and not _own_pack(block)]
    named = project.manifest.project.covariance
    covariance = [project.root / named] if named is not None else []
    files = [os.fspath(path) for path in (*recipes, *covariance, *blobs)]
    remember(place, os.fspath(store.root), [block.name for block in blocks], files, digest)


def _own_pack(block: LockedConcept) -> bool:
    return block.kind == "pack" and block.registry is None


def _addresses(lockfile: Lockfile) -> dict[str, str]:
    """The registries of a lockfile alone, which have no names but their addresses."""
    return {block.registry: block.registry for block in lockfile.concepts if block.registry is not None}


def _sources_elsewhere(source: str, lockfile: Lockfile, *, offline: bool) -> Sources:
    """The registries of a lockfile from elsewhere; a relative one lies beside it."""
    addresses = _addresses(lockfile)
    if not _is_address(source):
        return sources_of(addresses, Path(source).absolute().parent, offline=offline)
    remote = sources_of({}, Path(), offline=offline)

    def opened(place: str) -> Registry:
        if "://" in place and not place.startswith("file:"):
            return remote.registry(place)
        if place.startswith(("/", "~", "file:")) or Path(place).is_absolute():
            raise PerfError(
                "a lockfile from the network names a folder of this machine as a registry",
                where=f"{source}, {place}",
                hint="ask whoever made it to publish to a registry that others can reach",
            )
        return remote.registry(urljoin(source, f"{place}/").rstrip("/"))

    return Sources(addresses, opened)


def _seen_from(folder: Path, source: str, lockfile: Lockfile) -> Lockfile:
    """The lockfile with its relative registries, which lie beside `source`, as `folder` has to name them."""

    def seen(place: str) -> str:
        if "://" in place or place.startswith(("~", "file:")) or Path(place).is_absolute():
            return place
        if _is_address(source):
            return urljoin(source, f"{place}/").rstrip("/")
        there = (Path(source).absolute().parent / place).resolve()
        try:
            return Path(os.path.relpath(there, folder.resolve())).as_posix()
        except ValueError:  # another drive of Windows
            return there.as_posix()

    blocks = [
        block.model_copy(update={"source": f"{REGISTRY}{seen(block.registry)}"}) if block.registry else block
        for block in lockfile.concepts
    ]
    return lockfile.model_copy(update={"concepts": tuple(blocks)})


def _is_address(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def _read(source: str, *, offline: bool) -> bytes:
    """The bytes of a lockfile, from a file or over HTTP."""
    if not _is_address(source):
        try:
            path = Path(source)
            if path.stat().st_size > LARGEST_FILE:
                raise PerfError(f"the lockfile is larger than {LARGEST_FILE // 2**20} MB", where=source)
            return path.read_bytes()
        except OSError as error:
            raise PerfError(
                f"the lockfile cannot be read: {error.strerror or error}", where=source
            ) from error
    if offline:
        raise PerfError("the lockfile is on the network, and perf is working offline", where=source)
    from perfusion_registry.registries.bucket import StoredObject
    from perfusion_registry.registries.credentials import credentials_for
    from perfusion_registry.registries.http import HttpBucket

    folder, _, name = source.rpartition("/")
    found = HttpBucket(folder, {folder: credentials_for("lockfile", folder)}).get(name, limit=LARGEST_FILE)
    if not isinstance(found, StoredObject):
        raise PerfError("there is no lockfile at this address", where=source)
    return found.data
