"""`build --for BASE`: concepts that were learned on one base, transferred to another of equal widths."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.artifact import Store, load_artifact, save_artifact
from perfusion_registry.compose.concept import Concept
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.build import BuildResult, NeededConcept, needed_of, result_of
from perfusion_registry.operations.building import build_plan
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.concept_builder import BuiltConcept
from perfusion_registry.operations.plan import plan_of
from perfusion_registry.operations.substitute import check_out
from perfusion_registry.operations.transfer_source import NothingToTransferError, source_of
from perfusion_registry.operations.transfers import Transfers, is_own
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import canonical_name
from perfusion_registry.recipe.writing import replace_bytes
from perfusion_registry.resolve import ProjectFolder

if TYPE_CHECKING:
    from perfusion_registry.base import BaseDescription


@dataclass(frozen=True, kw_only=True)
class TransferOptions:
    """What to transfer. base: to which; as a manifest names it, a path from the working directory.

    names: the concepts (default: all that need it). files: artifacts to transfer, instead of those that are
    locked or in the store. covariance: of the base, where it is not the project's; default: the one that
    ships with it. out: of a base that is not the project's, the file to write for the one concept.
    """

    base: str
    names: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    covariance: Path | None = None
    out: Path | None = None
    dry_run: bool = False
    compute: ComputeOptions = field(default_factory=ComputeOptions)


def check_alone(base: str, options: Mapping[str, object]) -> None:
    """Raise PerfError where an option is given that is of training alone."""
    for option, given in options.items():
        if given:
            raise PerfError(
                "a transfer learns nothing: it takes what was learned on another base",
                where=f"--for {base}, {option}",
                hint=f"leave {option} out; without --for the concept is learned on the project's base",
            )


def transfer(workspace: Workspace, options: TransferOptions) -> BuildResult:
    """Transfer concepts to a base, without training.

    Where that is the project's own, and they have recipes here, they are locked, with what they were
    transferred from: until its recipe changes, such a concept is up to date. Else nothing is locked, and the
    store has them, for `render --for`. Raises PerfError, before anything is loaded, for what cannot be
    transferred.
    """
    project = workspace.read()
    description = workspace.base_named(options.base)
    given = _given(options.files, workspace.store)
    named = [canonical_name(name) for name in options.names]
    project.select([name for name in named if name not in given])
    recipes = set(project.local()) - {name for name in project.local() if project.is_pack(name)}
    wanted = {*named, *given} or recipes
    if wanted <= recipes and is_own(workspace, project, description):
        return _for_the_project(workspace, project, description, given, sorted(wanted), options)
    return _for_another(workspace, project, description, given, options)


def _for_the_project(
    workspace: Workspace,
    project: ProjectFolder,
    description: BaseDescription,
    given: dict[str, Concept],
    names: list[str],
    options: TransferOptions,
) -> BuildResult:
    """Transfer to the project's own base, and lock."""
    begun = time.monotonic()
    for option, value in (("--out", options.out), ("--covariance", options.covariance)):
        if value is not None:
            raise PerfError(
                f"`{description.repo}` is the project's own base, so what is transferred is locked",
                where=f"{option} {value}",
                hint=f"leave {option} out; perfusion.toml names the covariance",
            )
    planned = plan_of(workspace, project, names)
    sources, without = {}, []
    for task in planned.plan.tasks:
        if task.reason or task.name in given:
            try:
                sources[task.name] = source_of(workspace.store, planned, task, given.get(task.name))
            except NothingToTransferError as error:
                without.append(error)
    if without and (options.names or not sources):
        raise without[0]
    for left_out in without:
        workspace.reporter.warn(f"{left_out.what}; {left_out.hint}")
    names = [task.name for task in planned.plan.tasks if not task.reason or task.name in sources]
    planned = plan_of(workspace, project, names, transfers=sources)
    if options.dry_run:
        return result_of(planned, begun, needed=needed_of(planned, options.compute))
    built = build_plan(planned, options.compute, locked=False, reporter=workspace.reporter)
    return result_of(planned, begun, built=built)


def _for_another(
    workspace: Workspace,
    project: ProjectFolder,
    description: BaseDescription,
    given: dict[str, Concept],
    options: TransferOptions,
) -> BuildResult:
    """Transfer to a base that is not the project's, into the store, and into the file that is asked for."""
    begun = time.monotonic()
    concepts = [*given.values()]
    names = {canonical_name(name) for name in options.names}
    blocks = project.lockfile.concepts if project.lockfile else ()
    for block in blocks:
        wanted = block.name in names if names else not given
        if block.kind == "concept" and block.sha256 and block.name not in given and wanted:
            concepts.append(Concept(load_artifact(workspace.store.get(block.sha256)), block.sha256))
    missing = sorted(names - {concept.name for concept in concepts})
    if missing or not concepts:
        what = f"`{missing[0]}` is not built or fetched" if missing else "nothing is built or fetched"
        raise PerfError(
            f"{what} here, so there is nothing to transfer",
            where=str(project.lockfile_path),
            hint="run `perf build` or `perf sync` first, in a project of the base that it was learned on; "
            "or give its artifact: --with FILE",
        )
    if options.out is not None:
        check_out(options.out, concepts[0].name)
        if len(concepts) > 1:
            raise PerfError(
                f"a file holds one concept, and {len(concepts)} would be transferred",
                where=f"--out {options.out}",
                hint="name one of them",
            )
    transfers = Transfers(workspace, project, description, options.covariance, options.compute)
    for concept in concepts:
        transfers.check(concept)
    needed, built, current = [], [], []
    for concept in concepts:
        started = time.monotonic()
        if transfers.fit(concept):
            current.append(concept)
        elif options.dry_run:
            card = concept.artifact.card
            needed.append(NeededConcept(name=card.name, reason="transferred", version=card.version))
        else:
            built.append(_row(transfers.of(concept), started, workspace.store))
    if options.out is not None and not options.dry_run:
        sha256 = built[0].sha256 if built else current[0].sha256
        replace_bytes(options.out, workspace.store.get(sha256))
    return BuildResult(
        needed=tuple(needed),
        built=tuple(built),
        up_to_date=tuple(concept.name for concept in current),
        seconds=round(time.monotonic() - begun, 3),
        out=str(options.out) if options.out else None,
        locked=False,
    )


def _row(concept: Concept, started: float, store: Store) -> BuiltConcept:
    card = concept.artifact.card
    return BuiltConcept(
        name=card.name,
        version=card.version,
        reason="transferred",
        trained=False,
        seconds=round(time.monotonic() - started, 3),
        sha256=concept.sha256,
        size=store.path(concept.sha256).stat().st_size,
        steps_kept=card.steps_kept,
        scores=card.scores,
        transferred=card.transferred,
        card=card,
    )


def _given(paths: Sequence[Path], store: Store) -> dict[str, Concept]:
    """The concepts of artifact files by name, their bytes put into the store."""
    given: dict[str, Concept] = {}
    for path in paths:
        artifact = load_artifact(path)
        name = artifact.card.name
        if name in given:
            raise PerfError(f"two files hold a concept {name!r}", where=str(path), hint="give one of them")
        given[name] = Concept(artifact, store.put(save_artifact(artifact)))
    return given
