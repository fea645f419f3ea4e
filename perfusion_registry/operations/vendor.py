"""`vendor`: the releases of a lockfile, and what was built here, published into one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from perfusion_registry.artifact import read_card
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.publication import (
    Publication,
    as_published,
    concept_release,
    pack_publication,
    with_preview,
)
from perfusion_registry.operations.result import Result, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import LOCKFILE_NAME, LockedConcept, Pack, write_lockfile
from perfusion_registry.recipe.lockfile import REGISTRY
from perfusion_registry.recipe.writing import make_folder
from perfusion_registry.registries.download import fetch_preview
from perfusion_registry.registries.opening import open_registry
from perfusion_registry.resolve import ProjectFolder
from perfusion_registry.resolve.fetch import fetch, locked_release
from perfusion_registry.resolve.root_requirements import local_concepts
from perfusion_registry.resolve.sources import Sources
from perfusion_registry.resolve.staleness import unmet


class VendorResult(Result):
    """`perf vendor`: what was copied, and what was there already, as `NAME VERSION`."""

    schema_: Literal["perf.vendor/1"] = named("perf.vendor/1")
    folder: str
    copied: tuple[str, ...]
    present: tuple[str, ...]


def vendor(workspace: Workspace, folder: Path) -> VendorResult:
    """Make `folder` a registry of all that the project's lockfile names.

    Its own lockfile names the folder itself, so it can be moved. Raises PerfError where the lockfile is stale
    or a concept with a recipe is not built.
    """
    project = workspace.read()
    if project.lockfile is None:
        raise PerfError("there is no lockfile", where=str(project.lockfile_path), hint="run `perf lock`")
    if project.manifest_path.is_file():
        reasons = unmet(project, local_concepts(project))
        if reasons:
            raise PerfError(
                "the lockfile is not up to date:" + "".join(f"\n  - {reason}" for reason in reasons),
                where=str(project.lockfile_path),
                hint="run `perf lock`",
            )
    store, reporter = workspace.store, workspace.reporter
    blocks = project.lockfile.concepts
    sources = workspace.registries(project)
    if elsewhere := [block for block in blocks if block.registry is not None]:
        fetch(elsewhere, store, sources, reporter=reporter, previews=True)
    publications = [_publication(workspace, project, block, sources) for block in blocks]
    make_folder(folder)
    registry = open_registry(".", name=folder.name or "vendor", root=folder, cache=store.root)
    copied: list[str] = []
    present: list[str] = []
    vendored: list[LockedConcept] = []
    with reporter.stage("Copying", len(blocks)) as stage:
        for block, publication in zip(blocks, publications, strict=True):
            made = as_published(registry, publication)
            new = made.to(registry)
            (copied if new else present).append(f"{block.name} {block.version}")
            vendored.append(_vendored(block, made))
            stage.advance(1, block.name)
    lockfile = project.lockfile.model_copy(update={"concepts": tuple(vendored)})
    write_lockfile(folder / LOCKFILE_NAME, lockfile)
    return VendorResult(folder=str(folder), copied=tuple(copied), present=tuple(present))


def _publication(
    workspace: Workspace, project: ProjectFolder, block: LockedConcept, sources: Sources
) -> Publication:
    """The release of a block with its bytes and its preview: as its registry has it, or made from the
    project's own."""
    store = workspace.store
    if block.registry is not None:
        registry, release = locked_release(block, sources)
        preview = fetch_preview(registry, release, store, workspace.reporter)
        return Publication(release, store.get(block.sha256 or ""), preview)
    path, declared = project.recipe_path(block.name), project.declared(block.name)
    if isinstance(declared, Pack):
        return with_preview(workspace, pack_publication(project, declared), path, declared)
    if block.sha256 is None:
        raise PerfError(
            f"`{block.name}` is not built yet", where=block.source, hint=f"run `perf build {block.name}`"
        )
    blob = store.get(block.sha256)
    made = Publication(concept_release(read_card(blob), blob), blob)
    return with_preview(workspace, made, path, declared)


def _vendored(block: LockedConcept, made: Publication) -> LockedConcept:
    """The block as it is locked from the folder itself."""
    release = made.release
    return LockedConcept(
        name=block.name,
        version=release.version,
        kind=release.kind,
        source=f"{REGISTRY}.",
        sha256=release.sha256,
        size=release.size,
        requires=block.requires,
        method=block.method,
        render=block.render,
    )
