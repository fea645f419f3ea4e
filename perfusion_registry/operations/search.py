"""`search`: find concepts and scene packs in registries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from perfusion_registry.errors import PerfError
from perfusion_registry.operations.result import Result, left_out_if_none, named
from perfusion_registry.operations.workspace import Workspace, registries_of
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Version
from perfusion_registry.registries.registry import CatalogueEntry


class FoundConcept(FileModel):
    """A concept or scene pack of a registry."""

    registry: str
    name: Name
    version: Version
    kind: Literal["concept", "pack"]
    supercategory: str | None
    description: str | None
    licence: str | None = left_out_if_none()
    consent: str | None = left_out_if_none()
    preview: Annotated[bool, Field(exclude_if=lambda there: not there)] = False


class SearchResult(Result):
    """`perf search`. problems: what kept a registry from answering."""

    schema_: Literal["perf.search/1"] = named("perf.search/1")
    concepts: tuple[FoundConcept, ...]
    problems: tuple[str, ...]


def search(workspace: Workspace, words: Sequence[str] = (), *, registry: str | None = None) -> SearchResult:
    """What has all the words in its name, supercategory or description.

    registry: ask this one alone, as in `known_registries`. Raises the error of the first registry where none
    answers.
    """
    registries, root = known_registries(workspace, registry)
    sources = workspace.registries_at(root, registries)
    wanted = [word.casefold() for word in words]
    rows: list[FoundConcept] = []
    problems: list[PerfError] = []
    for name, url in sorted(registries.items()):
        try:
            catalogue = sources.registry(url).catalogue()
        except PerfError as error:
            problems.append(error)
            continue
        rows += [_row(name, entry) for entry in catalogue if _matches(entry, wanted)]
    if len(problems) == len(registries):
        raise problems[0]
    rows.sort(key=lambda row: (row.name not in wanted, row.name, row.registry))
    return SearchResult(concepts=tuple(rows), problems=tuple(str(problem) for problem in problems))


def known_registries(workspace: Workspace, registry: str | None) -> tuple[dict[str, str], Path]:
    """The registries to ask, by name, and the folder that relative ones start from.

    registry: one alone, by its name in the project, or by its address, which needs no project. Raises
    PerfError where there is none.
    """
    project = workspace.read() if registry is None else workspace.read_if_any()
    if project is None:
        assert registry is not None
        return {registry: registry}, Path.cwd()
    named = project.manifest.registries
    if registry is not None:
        return ({registry: named[registry]} if registry in named else {registry: registry}), project.root
    known = registries_of(project)
    if not known:
        raise PerfError(
            "the project has no registry",
            where=str(project.manifest_path),
            hint='add one: [registries] studio = "https://..." (or a folder)',
        )
    return known, project.root


def _row(registry: str, entry: CatalogueEntry) -> FoundConcept:
    return FoundConcept(
        registry=registry,
        name=entry.name,
        version=entry.version,
        kind=entry.kind,
        supercategory=entry.supercategory,
        description=entry.description,
        licence=entry.licence,
        consent=entry.consent,
        preview=entry.preview,
    )


def _matches(entry: CatalogueEntry, words: Sequence[str]) -> bool:
    text = " ".join([entry.name, entry.supercategory or "", entry.description or ""]).casefold()
    return all(word in text for word in words)
