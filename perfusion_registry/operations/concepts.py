"""`remove` and `list`: the concepts of a project."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from perfusion_registry.artifact import Store
from perfusion_registry.artifact.verdict import Rating
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.build_time import where_it_stands
from perfusion_registry.operations.findings import stored_card
from perfusion_registry.operations.plan import plan_of
from perfusion_registry.operations.result import InProcess, Result, left_out_if_none, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.operations.yanked import yanked
from perfusion_registry.recipe import Pack, write_lockfile
from perfusion_registry.recipe.document import read_text
from perfusion_registry.recipe.editing import remove_concept
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Sha256
from perfusion_registry.recipe.writing import replace_text
from perfusion_registry.resolve import BuildTask, ProjectFolder
from perfusion_registry.resolve.root_requirements import reachable


class RemoveResult(Result):
    """`perf remove`. recipes: of those that had one, which stays.

    scenes: those that still call one of them.
    """

    schema_: Literal["perf.remove/1"] = named("perf.remove/1")
    removed: tuple[Name, ...]
    recipes: InProcess[dict[Name, str]]
    scenes: InProcess[tuple[tuple[str, Name], ...]]


class ListedConcept(FileModel):
    """A concept of a project. supercategory: as its recipe says it, or the artifact that was fetched; empty
    where neither is here. state: what a build or a sync would do with it, in words. rating: what its build
    found it good for: `good`; `fair` where it is told from its plain word, but places hardly appear or its
    gate opens elsewhere; `poor` where it is hardly told, or its own pictures are not what the base can draw
    or the word says."""

    name: Name
    version: str
    supercategory: str
    state: str
    size: int | None
    sha256: Sha256 | None
    source: str
    rating: Rating | None = left_out_if_none()


class ListResult(Result):
    """`perf list`. problem: why states are unknown, where they are."""

    schema_: Literal["perf.list/1"] = named("perf.list/1")
    base: str
    problem: str | None
    concepts: tuple[ListedConcept, ...]


def remove(workspace: Workspace, names: Sequence[str]) -> RemoveResult:
    """Take concepts out of the manifest and the lockfile; their recipes stay."""
    project = workspace.read()
    try:
        chosen = project.select(names)
    except PerfError as error:
        error.hint = "`perf list` shows what there is"
        raise
    text = read_text(project.manifest_path, "manifest")
    for name in chosen:
        text = remove_concept(text, name, str(project.manifest_path))
    replace_text(project.manifest_path, text, as_it_was=True)
    if project.lockfile is not None:
        needed = reachable(set(project.manifest.concepts) - set(chosen), project.lockfile.concepts)
        kept = tuple(concept for concept in project.lockfile.concepts if concept.name in needed)
        write_lockfile(project.lockfile_path, project.lockfile.model_copy(update={"concepts": kept}))
    recipes = {name: project.manifest.concepts[name].recipe for name in chosen}
    calling = tuple(
        (title, name)
        for title, scene in project.manifest.scenes.items()
        for name in chosen
        if name in scene.gates or f"{name}*" in scene.prompt
    )
    return RemoveResult(
        removed=tuple(chosen),
        recipes={name: recipe for name, recipe in recipes.items() if recipe is not None},
        scenes=calling,
    )


def list_concepts(workspace: Workspace) -> ListResult:
    """The project's concepts, and what a build would do."""
    project = workspace.read()
    problem, states = _states(workspace, project)
    gone = yanked(workspace, project.root, project.lockfile.concepts if project.lockfile else ())
    rows = [
        _row(project, workspace.store, name, states.get(name, "unknown"))
        for name in sorted(project.manifest.concepts)
    ]
    rows = [
        row.model_copy(update={"state": f"{row.state}, yanked"}) if row.name in gone else row for row in rows
    ]
    return ListResult(base=project.manifest.project.base, problem=problem, concepts=tuple(rows))


def _states(workspace: Workspace, project: ProjectFolder) -> tuple[str | None, dict[str, str]]:
    """What a build would do with each concept; or, when that cannot be told, why."""
    states: dict[str, str] = {}
    problem = None
    for name, entry in project.manifest.concepts.items():
        if entry.recipe is None:
            states[name] = _fetched(workspace, project, name)
            continue
        try:
            for task in plan_of(workspace, project, [name]).plan.tasks:
                states[name] = _to_build(workspace.store, task) if task.reason else _built(project, task)
        except PerfError as error:
            problem = str(error) if problem is None else problem
            states[name] = "unknown"
    return problem, states


def _to_build(store: Store, task: BuildTask) -> str:
    """Why it is to be built; of a build that was interrupted, where it stands."""
    stands = where_it_stands(task, store)
    return f"to build: {task.reason}" if stands is None else f"begun: {stands}"


def _built(project: ProjectFolder, task: BuildTask) -> str:
    """Whether prompts can call what is built: the lockfile must have it."""
    block = project.lockfile.concept(task.name) if project.lockfile else None
    return "built" if block and block.sha256 == task.built else "built, to lock: perf build"


def _fetched(workspace: Workspace, project: ProjectFolder, name: str) -> str:
    """Whether a concept of a registry is here."""
    block = project.lockfile.concept(name) if project.lockfile else None
    if block is None or block.sha256 is None:
        return "to lock"
    return "fetched" if workspace.store.has(block.sha256) else "to fetch"


def _row(project: ProjectFolder, store: Store, name: str, state: str) -> ListedConcept:
    entry = project.manifest.concepts[name]
    locked = project.lockfile.concept(name) if project.lockfile else None
    here = locked if locked and state in ("built", "fetched") else None
    row: dict[str, Any] = {
        "name": name,
        "version": locked.version if locked else entry.version or "",
        "supercategory": "",
        "state": state,
        "size": here.size if here else None,
        "sha256": here.sha256 if here else None,
        "source": entry.recipe or entry.registry or "",
    }
    card = None if here is None else stored_card(store, here.sha256)
    if card is not None and card.verdict is not None:
        row["rating"] = card.verdict.rating
    if entry.recipe is None and card is not None:
        row["supercategory"] = card.supercategory or ""
    if entry.recipe is not None:
        try:
            recipe = project.declared(name)
        except PerfError:
            return ListedConcept(**row)
        if isinstance(recipe, Pack):
            row |= {"version": recipe.pack.version, "state": "scene pack"}
        else:
            concept = recipe.concept
            row |= {"version": concept.version, "supercategory": concept.supercategory or ""}
    return ListedConcept(**row)
