"""`metadata`: the whole of a project as one value, for tools; format 1."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from perfusion_registry.artifact.card import Imported
from perfusion_registry.artifact.verdict import Rating, Verdict
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.build_time import where_it_stands
from perfusion_registry.operations.findings import findings
from perfusion_registry.operations.plan import plan_of
from perfusion_registry.operations.result import Result, left_out_if_none, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import Lockfile, Manifest, Pack
from perfusion_registry.recipe.lockfile1 import Lockfile1
from perfusion_registry.recipe.lockfile_text import spelt_lockfile
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.resolve import ProjectFolder
from perfusion_registry.resolve.covariance import covariance_if_any, needs_covariance, no_covariance

FORMATS = (1,)
NEWEST = FORMATS[-1]
"""The formats of what `metadata` returns, which tools ask for by number."""


class ConceptMetadata(FileModel):
    """One concept or scene pack: what the manifest asks for, what is locked, and what is on this machine.

    recipe, artifact: absolute paths; artifact is where the bytes are or would be. state: `built` (or fetched:
    the artifact is in the store, whole), `to-build`, `to-sync`, or `unknown` where a problem hides it. why:
    of a state that is not `built`. dependency: whether only a scene pack asks for it.
    similarity: of its own word in the prompts that it was learned with, where its card says it. energy: how
    much of the squared numbers of what was learned it keeps, where it is a difference. learned_on: the base
    that it was transferred from. imported: the file that it was made from. verdict: what its build found it
    good for, likewise; rating: that in a word, as in `perf.list`. sheet: the absolute path of the pictures
    that the build drew, where that was on this machine.
    """

    name: str
    version: str | None = None
    kind: Literal["concept", "pack"] = "concept"
    supercategory: str | None = None
    source: str
    recipe: str | None = None
    registry: str | None = None
    dependency: bool = False
    state: Literal["built", "to-build", "to-sync", "unknown"]
    why: str | None = None
    sha256: str | None = None
    artifact: str | None = None
    similarity: float | None = left_out_if_none()
    energy: float | None = left_out_if_none()
    learned_on: str | None = left_out_if_none()
    imported: Imported | None = left_out_if_none()
    rating: Rating | None = left_out_if_none()
    verdict: Verdict | None = left_out_if_none()
    sheet: str | None = left_out_if_none()


class BaseMetadata(FileModel):
    """The base on this machine; without folder, digest and family where `problem` says why it is not here.

    covariance: None where there is none, which is no problem where no concept needs one.
    """

    name: str
    folder: str | None = None
    digest: str | None = None
    family: str | None = None
    covariance: str | None = None
    problem: str | None = None


class ProjectMetadata(Result):
    """`perf metadata --format-version 1`. root, store: absolute paths. manifest, lock: as in their files."""

    schema_: Literal["perf.metadata/1"] = named("perf.metadata/1")
    perf: str
    root: str
    store: str
    manifest: dict[str, Any]
    lock: dict[str, Any] | None = None
    base: BaseMetadata
    concepts: tuple[ConceptMetadata, ...] = ()
    scenes: tuple[str, ...] = ()
    problems: tuple[str, ...] = Field(default=(), description="What kept perf from telling more.")


def check_format(version: int) -> None:
    """Raise PerfError for a format of metadata that this perf does not know."""
    if version not in FORMATS:
        raise PerfError(
            f"perf knows no metadata format {version}", where="--format-version", hint=f"give {NEWEST}"
        )


def metadata(workspace: Workspace) -> ProjectMetadata:
    """Everything that perf knows of the project; opens no socket and loads no model.

    What is broken in a recipe or the base becomes a problem in the result, not an error.
    """
    from perfusion_registry.version import __version__

    project, store = workspace.read(), workspace.store
    problems: list[str] = []
    lockfile = project.lockfile or Lockfile()
    names = sorted({*project.manifest.concepts, *(block.name for block in lockfile.concepts)})
    concepts = tuple(_concept(workspace, project, lockfile, name, problems) for name in names)
    return ProjectMetadata(
        perf=__version__,
        root=str(project.root),
        store=str(store.root),
        manifest=_plain(project.manifest),
        lock=None if project.lockfile is None else _plain(spelt_lockfile(project.lockfile)),
        base=_base(workspace, project),
        concepts=concepts,
        scenes=tuple(sorted(project.manifest.scenes)),
        problems=tuple(dict.fromkeys(problems)),
    )


def _plain(model: Manifest | Lockfile | Lockfile1) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def _base(workspace: Workspace, project: ProjectFolder) -> BaseMetadata:
    name = project.manifest.project.base
    try:
        base = workspace.base(project, download=False)
    except PerfError as error:
        return BaseMetadata(name=name, problem=error.what)
    try:
        found = covariance_if_any(project, base.covariance)
        covariance, problem = None if found is None else str(found.path), None
        if found is None and (not project.manifest.concepts or needs_covariance(project)):
            problem = no_covariance(project).what
    except PerfError as error:
        covariance, problem = None, error.what
    return BaseMetadata(
        name=name,
        folder=str(base.folder),
        digest=base.digest,
        family=base.family,
        covariance=covariance,
        problem=problem,
    )


def _concept(
    workspace: Workspace, project: ProjectFolder, lockfile: Lockfile, name: str, problems: list[str]
) -> ConceptMetadata:
    store = workspace.store
    entry = project.manifest.concepts.get(name)
    block = lockfile.concept(name)
    sha256 = block.sha256 if block else None
    facts: dict[str, Any] = {
        "name": name,
        "version": block.version if block else None,
        "kind": block.kind if block else "concept",
        "source": block.source if block else (entry.recipe or entry.registry or "registry" if entry else ""),
        "registry": block.registry if block else None,
        "dependency": entry is None,
        "sha256": sha256,
        "artifact": str(store.path(sha256)) if sha256 else None,
    }
    if entry is None or entry.recipe is None:
        if sha256 and store.has(sha256):
            return ConceptMetadata(**facts, state="built", **findings(store, sha256))
        why = "it is not in this store" if block else "it is not locked"
        return ConceptMetadata(**facts, state="to-sync", why=why)
    facts["recipe"] = str(project.root / entry.recipe)
    try:
        return ConceptMetadata(**(facts | _declared(workspace, project, name)))
    except PerfError as error:
        problems.append(str(error))
        return ConceptMetadata(**facts, state="unknown", why=error.what)


def _declared(workspace: Workspace, project: ProjectFolder, name: str) -> dict[str, Any]:
    """What the recipe says, and what a build would do."""
    declared = project.declared(name)
    if isinstance(declared, Pack):
        return {"version": declared.pack.version, "kind": "pack", "state": "built"}
    concept = declared.concept
    facts: dict[str, Any] = {"version": concept.version, "supercategory": concept.supercategory}
    (task,) = plan_of(workspace, project, [name]).plan.tasks
    if task.built:
        path = workspace.store.path(task.built)
        there = {"state": "built", "sha256": task.built, "artifact": str(path)}
        return facts | there | findings(workspace.store, task.built)
    stands = where_it_stands(task, workspace.store)
    return facts | {"state": "to-build", "why": task.reason if stands is None else f"{task.reason}; {stands}"}
