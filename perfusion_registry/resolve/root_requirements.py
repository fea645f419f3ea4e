"""What a project requires: the requirements of its manifest and of its own scene packs."""

from __future__ import annotations

from collections.abc import Iterable

from perfusion_registry.recipe import LockedConcept, Pack
from perfusion_registry.resolve.candidates import CandidateFinder
from perfusion_registry.resolve.planning import shown
from perfusion_registry.resolve.project import ProjectFolder
from perfusion_registry.resolve.requirement import Requirement
from perfusion_registry.resolve.sources import LocalConcept


def local_concepts(project: ProjectFolder) -> dict[str, LocalConcept]:
    """What the recipes of a project declare, by name."""
    concepts = {}
    for name in project.local():
        recipe = project.declared(name)
        where = shown(project.recipe_path(name), project.root)
        if isinstance(recipe, Pack):
            concepts[name] = LocalConcept(name, recipe.pack.version, where, "pack", recipe.pack.requires)
        else:
            concepts[name] = LocalConcept(name, recipe.concept.version, where)
    return concepts


def root_requirements(project: ProjectFolder, finder: CandidateFinder) -> list[Requirement]:
    """The requirements of the manifest, a name each, bound to their registries."""
    requirements = []
    for name, entry in sorted(project.manifest.concepts.items()):
        origin = key_path(project, name)
        if entry.recipe is not None:
            requirements.append(Requirement(name, "", None, origin))
        elif entry.registry is not None:
            place = finder.sources.bind(name, entry.registry, origin)
            requirements.append(Requirement(name, entry.version or "", place, origin))
        else:
            requirements.append(Requirement(name, entry.version or "", finder.bind(name, origin), origin))
    return requirements


def key_path(project: ProjectFolder, name: str) -> str:
    """Where the manifest speaks of a concept."""
    return f"{project.manifest_path.name}, concepts.{name}"


def reachable(names: Iterable[str], blocks: Iterable[LockedConcept]) -> set[str]:
    """The names, and those that their locked versions require, and so on."""
    requires = {block.name: list(block.requires) for block in blocks}
    reached: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += requires.get(name, ())
    return reached
