"""`list --outdated`: what registries have beyond what is locked."""

from __future__ import annotations

from typing import Literal

from perfusion_registry.operations.plan import load_plan
from perfusion_registry.operations.result import Result, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import LockedConcept
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Version, parsed_version
from perfusion_registry.resolve.candidates import CandidateFinder
from perfusion_registry.resolve.choice import platform_of
from perfusion_registry.resolve.requirement import Requirement
from perfusion_registry.resolve.root_requirements import key_path


class OutdatedConcept(FileModel):
    """A locked concept that has a newer version, or is yanked.

    allowed: by the manifest; latest: for this base.
    """

    name: Name
    locked: Version
    allowed: Version | None
    latest: Version | None
    yanked: bool
    registry: str


class OutdatedResult(Result):
    """`perf list --outdated`."""

    schema_: Literal["perf.list-outdated/1"] = named("perf.list-outdated/1")
    concepts: tuple[OutdatedConcept, ...]


def outdated(workspace: Workspace) -> OutdatedResult:
    """Each locked concept of a registry that has a newer version for this base, or is yanked."""
    planned = load_plan(workspace)
    project = planned.project
    sources = workspace.registries_at(project.root, project.manifest.registries)
    finder = CandidateFinder(sources, {}, platform_of(planned.plan))
    blocks = [block for block in (project.lockfile.concepts if project.lockfile else ()) if block.registry]
    sources.prepare((block.registry, block.name) for block in blocks if block.registry)
    wanted = {name: entry.version or "" for name, entry in project.manifest.concepts.items()}
    rows = [_row(block, wanted, key_path(project, block.name), finder) for block in blocks]
    return OutdatedResult(concepts=tuple(row for row in rows if row.yanked or row.latest != row.locked))


def _row(
    block: LockedConcept, wanted: dict[str, str], origin: str, finder: CandidateFinder
) -> OutdatedConcept:
    """A block, the newest version that the manifest lets in, and the newest that this base can use."""
    assert block.registry is not None

    def newest(constraint: str) -> str | None:
        requirement = Requirement(block.name, constraint, block.registry, origin)
        candidate = next(finder.candidates(block.name, [requirement]), None)
        return candidate.version if candidate else None

    latest = newest("")
    if latest is not None and parsed_version(latest) < parsed_version(block.version):
        latest = block.version  # a pre-release that was asked for, or a version that was yanked since
    listings = finder.sources.listings(block.registry, block.name)
    return OutdatedConcept(
        name=block.name,
        locked=block.version,
        allowed=newest(wanted.get(block.name, "")),
        latest=latest,
        yanked=any(listing.yanked for listing in listings if listing.version == block.version),
        registry=finder.sources.called(block.registry),
    )
