"""`verify`: the lockfile, what the store has of it, and who signed it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from perfusion_registry.artifact import Store, read_card
from perfusion_registry.errors import CheckFailedError, PerfError
from perfusion_registry.methods.files import parse_pack
from perfusion_registry.operations.lock import NoLockfileError
from perfusion_registry.operations.result import InProcess, Result, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import LockedConcept, Lockfile
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.registries import Release
from perfusion_registry.resolve import ProjectFolder
from perfusion_registry.resolve.covariance import covariance_differs, covariance_if_any
from perfusion_registry.resolve.fetch import locked_release
from perfusion_registry.resolve.root_requirements import local_concepts
from perfusion_registry.resolve.sources import Sources
from perfusion_registry.resolve.staleness import EDITED, base_differs, base_unmet, unmet
from perfusion_registry.trust import SignaturePolicy


class CheckedConcept(FileModel):
    """A locked thing, or the lockfile itself, and what is wrong with it; nothing where it is whole.

    hints: what to do about each that is wrong. key: the public key of who signed it, None where nobody did
    or it comes from no registry.
    """

    name: str
    version: str | None
    source: str | None
    wrong: tuple[str, ...]
    hints: InProcess[tuple[str, ...]] = ()
    key: str | None


class VerifyResult(Result):
    """`perf verify`."""

    schema_: Literal["perf.verify/1"] = named("perf.verify/1")
    whole: bool
    checked: tuple[CheckedConcept, ...]

    @property
    def failed(self) -> tuple[CheckedConcept, ...]:
        """Those with which something is wrong."""
        return tuple(row for row in self.checked if row.wrong)

    def raise_if_failed(self) -> None:
        """Raise CheckFailedError where something is wrong."""
        if self.failed:
            raise CheckFailedError(
                f"the check failed for {', '.join(row.name for row in self.failed)}",
                hint="; ".join(dict.fromkeys(hint for row in self.failed for hint in row.hints)) or None,
            )


def verify(workspace: Workspace, *, require_signed: bool = False) -> VerifyResult:
    """Check everything that the lockfile of the project names; nothing of it is changed, and nothing fetched.

    A key that is met here for the first time becomes known, as in a sync: the check relied on it. Raises
    NoLockfileError where there is no lockfile.
    """
    project = workspace.read()
    if project.lockfile is None:
        raise NoLockfileError(
            "there is no lockfile to verify", where=str(project.lockfile_path), hint="run `perf lock`"
        )
    lockfile = project.lockfile
    sources = workspace.registries(project)
    signatures = workspace.signatures(project.root, require=require_signed)
    checked = [_lockfile(workspace, project)]
    with workspace.reporter.stage("Verifying", len(lockfile.concepts)) as stage:
        for block in lockfile.concepts:
            checked.append(_concept(block, lockfile, workspace.store, sources, signatures))
            stage.advance(1, block.name)
    signatures.remember()
    return VerifyResult(whole=not any(row.wrong for row in checked), checked=tuple(checked))


_LOCK = "`perf lock` locks what changed"
_KEEPER = "tell the registry's keeper"


class _Wrong:
    """What is wrong with a locked thing, and what to do about each cause of it."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.hints: list[str] = []

    def add(self, found: Sequence[str], hint: str | None) -> None:
        """All that one cause made wrong."""
        self.found += found
        if found and hint is not None:
            self.hints.append(hint)

    def row(self, name: str, block: LockedConcept | None = None, key: str | None = None) -> CheckedConcept:
        """As it is told."""
        return CheckedConcept(
            name=name,
            version=block.version if block else None,
            source=block.source if block else None,
            wrong=tuple(self.found),
            hints=tuple(self.hints),
            key=key,
        )


def _lockfile(workspace: Workspace, project: ProjectFolder) -> CheckedConcept:
    """How the lockfile is not that of its manifest, or the base and covariance here not the locked ones."""
    lockfile, wrong = project.lockfile or Lockfile(), _Wrong()
    if project.manifest_path.is_file():
        try:
            wrong.add(unmet(project, local_concepts(project)) + base_unmet(project), _LOCK)
        except PerfError as error:
            wrong.add([error.what], error.hint)
    try:
        base = workspace.base(project, download=False)
        differs = base_differs(lockfile.base, base)
        if differs is not None and EDITED not in wrong.found:
            here = f"the base {base.repo} here is not the locked one: {differs[0]}"
            wrong.add([here], differs[1])
        if project.manifest_path.is_file():  # a lockfile alone draws, which needs no covariance
            covariance = covariance_if_any(project, base.covariance)
            if lockfile.covariance is not None and covariance_differs(lockfile.covariance, covariance):
                name = covariance.path.name if covariance is not None else "none"
                wrong.add(
                    [f"{name} is not the locked covariance"], f"have the locked covariance here, or {_LOCK}"
                )
    except PerfError as error:
        wrong.add([error.what], error.hint)
    return wrong.row("perfusion.lock")


def _concept(
    block: LockedConcept, lockfile: Lockfile, store: Store, sources: Sources, signatures: SignaturePolicy
) -> CheckedConcept:
    wrong, key = _Wrong(), None
    again = f"`perf build {block.name}` builds it" if block.registry is None else "`perf sync` fetches it"
    if block.sha256 is None:
        if block.kind == "concept":
            wrong.add(["it is not built"], again)
    elif not (block.kind == "pack" and block.registry is None):
        try:
            data = store.get(block.sha256)
        except PerfError as error:
            wrong.add([error.what], again)
        else:
            try:
                if block.size is not None and len(data) != block.size:
                    wrong.add([f"it has {len(data)} bytes; {block.size} are locked"], _LOCK)
                wrong.add(_pack(block, data) if block.kind == "pack" else _card(block, data, lockfile), _LOCK)
            except PerfError as error:
                wrong.add([error.what], error.hint)
    if block.registry is not None:
        try:
            registry, release = locked_release(block, sources)
            signatures(registry, release)
            wrong.add(_listing(block, release), _KEEPER)
            key = release.signature.key if release.signature else None
        except PerfError as error:
            wrong.add([error.what], error.hint)
    return wrong.row(block.name, block, key)


def _pack(block: LockedConcept, data: bytes) -> list[str]:
    section = parse_pack(data, f"{block.name} {block.version}").pack
    if (section.name, section.version) != (block.name, block.version):
        return [f"its bytes say that they are {section.name} {section.version}"]
    return (
        [] if dict(section.requires) == dict(block.requires) else ["it requires other things than are locked"]
    )


def _card(block: LockedConcept, data: bytes, lockfile: Lockfile) -> list[str]:
    """How the card disagrees with the lockfile."""
    card = read_card(data)
    pairs: dict[str, tuple[Any, Any]] = {
        "name": (card.name, block.name),
        "version": (card.version, block.version),
        "family": (card.family, lockfile.base.family if lockfile.base else card.family),
        "recipe digest": (card.recipe_digest, block.recipe_digest or card.recipe_digest),
        "method": (card.method, block.method),
    }
    said = card.render.model_dump(mode="json")
    pairs |= {key.replace("_", " "): (said.get(key), value) for key, value in block.render.items()}
    return [
        f"its card's {field} is {_short(value)}; {_short(locked)} is locked"
        for field, (value, locked) in pairs.items()
        if value != locked
    ]


def _listing(block: LockedConcept, release: Release) -> list[str]:
    pairs: dict[str, tuple[Any, Any]] = {
        "kind": (release.kind, block.kind),
        "size": (release.size, block.size),
        "method": (release.method, block.method),
    }
    pairs |= {key.replace("_", " "): (release.render.get(key), value) for key, value in block.render.items()}
    return [
        f"its registry says {field} {_short(value)}; {_short(locked)} is locked"
        for field, (value, locked) in pairs.items()
        if value != locked
    ]


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text
