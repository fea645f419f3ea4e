"""Verifying a project: its lockfile, what the store has of it, and who signed it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from perfusion_registry.artifact import Store, cache_dir, read_card
from perfusion_registry.artifact.lockfiles import note_lockfile
from perfusion_registry.cli.registries import sources_of
from perfusion_registry.errors import CheckFailedError, PerfError
from perfusion_registry.recipe import LockedConcept, Lockfile, parse_pack
from perfusion_registry.registries import Release
from perfusion_registry.reporter import Reporter
from perfusion_registry.resolve import Project, find_covariance
from perfusion_registry.resolve.fetch import locked_release
from perfusion_registry.resolve.sources import Sources
from perfusion_registry.resolve.staleness import base_unmet, unmet
from perfusion_registry.resolve.wishes import local_concepts
from perfusion_registry.trust import KnownKeys, SignaturePolicy
from perfusion_registry.trust.known import keys_path


@dataclass(frozen=True)
class Checked:
    """One locked thing and what is wrong with it; whole where nothing is.

    key: the public key of who signed it, None where nobody did or it comes from no registry.
    """

    name: str
    version: str
    source: str
    wrong: tuple[str, ...]
    key: str | None = None


def verify_project(
    start: Path | None, *, offline: bool, require_signed: bool, reporter: Reporter
) -> list[Checked]:
    """Check everything that the lockfile of a project names; nothing is changed, and nothing fetched.

    offline: of registries, only what is remembered. Raises CheckFailedError where there is no lockfile.
    """
    project = Project.find(start, lock_alone=True)
    if project.lockfile is None:
        raise CheckFailedError(
            "there is no lockfile to verify", where=str(project.lockfile_path), hint="run `perf lock`"
        )
    lockfile = project.lockfile
    store = Store(cache_dir())
    note_lockfile(store.root, project.lockfile_path)
    addresses = {block.registry: block.registry for block in lockfile.concepts if block.registry}
    sources = sources_of(project.manifest.registries or addresses, project.root, offline=offline)
    keeper = SignaturePolicy(KnownKeys(keys_path()), project.root, require=require_signed)
    checked = [Checked("perfusion.lock", "", "", tuple(_stale(project)))]
    with reporter.stage("Verifying", len(lockfile.concepts)) as stage:
        for block in lockfile.concepts:
            checked.append(_concept(block, lockfile, store, sources, keeper))
            stage.advance(1, block.name)
    return checked


def _stale(project: Project) -> list[str]:
    """How the lockfile is not that of its manifest, or the base and covariance here not the locked ones."""
    from perfusion_registry.base import describe_base

    lockfile = project.lockfile or Lockfile()
    told = []
    if project.manifest_path.is_file():
        try:
            told += unmet(project, local_concepts(project)) + base_unmet(project)
        except PerfError as error:
            told.append(error.what)
    try:
        base = describe_base(project.manifest.project.base, root=project.root, allow_download=False)
        if lockfile.base is not None and base.digest != lockfile.base.digest:
            here = {file.path: file.sha256 for file in base.files}
            other = [file.path for file in lockfile.base.files if here.get(file.path) != file.sha256]
            told.append(
                f"the base's files are not the locked ones: {', '.join(other[:3]) or 'there are more'}"
            )
        if project.manifest_path.is_file():  # a lockfile alone draws, which needs no covariance
            covariance = find_covariance(project, base.covariance)
            if lockfile.covariance is not None and covariance.digest != lockfile.covariance.sha256:
                told.append(f"{covariance.path.name} is not the locked covariance")
    except PerfError as error:
        told.append(error.what)
    return told


def _concept(
    block: LockedConcept, lockfile: Lockfile, store: Store, sources: Sources, keeper: SignaturePolicy
) -> Checked:
    wrong: list[str] = []
    key = None
    if block.sha256 is None:
        if block.kind == "concept":
            wrong.append("it is not built")
    elif not (block.kind == "pack" and block.registry is None):
        try:
            data = store.get(block.sha256)
            if block.size is not None and len(data) != block.size:
                wrong.append(f"it has {len(data)} bytes; {block.size} are locked")
            wrong += _pack(block, data) if block.kind == "pack" else _card(block, data, lockfile)
        except PerfError as error:
            wrong.append(error.what)
    if block.registry is not None:
        try:
            registry, release = locked_release(block, sources)
            keeper(registry, release)
            wrong += _listing(block, release)
            key = release.signature.key if release.signature else None
        except PerfError as error:
            wrong.append(error.what)
    return Checked(block.name, block.version, block.source, tuple(wrong), key)


def _pack(block: LockedConcept, data: bytes) -> list[str]:
    said = parse_pack(data, f"{block.name} {block.version}").pack
    if (said.name, said.version) != (block.name, block.version):
        return [f"its bytes say that they are {said.name} {said.version}"]
    return [] if dict(said.requires) == dict(block.requires) else ["it requires other things than are locked"]


def _card(block: LockedConcept, data: bytes, lockfile: Lockfile) -> list[str]:
    """How the card disagrees with the lockfile."""
    card = read_card(data)
    pairs = {
        "name": (card.name, block.name),
        "version": (card.version, block.version),
        "family": (card.family, lockfile.base.family if lockfile.base else card.family),
        "recipe digest": (card.recipe_digest, block.recipe_digest or card.recipe_digest),
        "bias": (card.render.bias, block.bias),
        "temperature": (card.render.temperature, block.temperature),
        "key lock": (card.render.key_lock, block.key_lock),
    }
    return [
        f"its card's {field} is {_short(said)}; {_short(locked)} is locked"
        for field, (said, locked) in pairs.items()
        if said != locked
    ]


def _listing(block: LockedConcept, release: Release) -> list[str]:
    pairs = {
        "kind": (release.kind, block.kind),
        "size": (release.size, block.size),
        "bias": (release.bias, block.bias),
        "temperature": (release.temperature, block.temperature),
        "key lock": (release.key_lock, block.key_lock),
    }
    return [
        f"its registry says {field} {_short(said)}; {_short(locked)} is locked"
        for field, (said, locked) in pairs.items()
        if said != locked
    ]


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text
