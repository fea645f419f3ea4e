"""`tree`: what is locked, and for the sake of what."""

from __future__ import annotations

from typing import Literal

from perfusion_registry.operations.result import InProcess, Result, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import Lockfile
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Version


class TreeConcept(FileModel):
    """A locked concept or scene pack."""

    name: Name
    version: Version
    kind: Literal["concept", "pack"]
    source: str
    requires: dict[Name, str]


class TreeResult(Result):
    """`perf tree`. roots: what the manifest asks for; of a lockfile alone, what nothing requires."""

    schema_: Literal["perf.tree/1"] = named("perf.tree/1")
    project: str
    base: str
    roots: tuple[Name, ...]
    concepts: tuple[TreeConcept, ...]
    lockfile: InProcess[Lockfile]


def tree(workspace: Workspace) -> TreeResult:
    """What is locked, and what each of it requires."""
    project = workspace.read()
    lockfile = project.lockfile or Lockfile()
    required = {name for block in lockfile.concepts for name in block.requires}
    if project.manifest_path.is_file():
        roots = sorted(project.manifest.concepts)
    else:
        roots = [block.name for block in lockfile.concepts if block.name not in required]
    rows = tuple(
        TreeConcept(
            name=block.name,
            version=block.version,
            kind=block.kind,
            source=block.source,
            requires=block.requires,
        )
        for block in lockfile.concepts
    )
    section = project.manifest.project
    return TreeResult(
        project=section.name, base=section.base, roots=tuple(roots), concepts=rows, lockfile=lockfile
    )
