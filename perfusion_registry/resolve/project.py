"""A project: the folder of a manifest, with its recipes and its lockfile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe import (
    LOCKFILE_NAME,
    MANIFEST_NAME,
    Lockfile,
    Manifest,
    Recipe,
    canonical_name,
    read_lockfile,
    read_manifest,
    read_recipe,
)
from perfusion_registry.recipe.document import nearest


@dataclass(frozen=True)
class Project:
    """A manifest and its lockfile, as they were when the project was read. root: the manifest's folder."""

    root: Path
    manifest: Manifest
    lockfile: Lockfile | None

    @classmethod
    def find(cls, start: Path | None = None, *, relock: bool = False) -> Project:
        """The project of `start` (default: the working directory) or of its nearest parent that has one.

        relock: the lockfile is about to be written anew, so what a merge left in conflict is left out.
        """
        begin = (start or Path()).absolute()
        for folder in (begin, *begin.parents):
            if (folder / MANIFEST_NAME).is_file():
                return cls.read(folder, relock=relock)
        raise PerfError(
            f"there is no {MANIFEST_NAME} here or in any folder above",
            where=str(begin),
            hint="run `perf init` to begin a project",
        )

    @classmethod
    def read(cls, root: Path, *, relock: bool = False) -> Project:
        """The project whose manifest is in `root`."""
        lock = root / LOCKFILE_NAME
        manifest = read_manifest(root / MANIFEST_NAME)
        return cls(root, manifest, read_lockfile(lock, drop_conflicts=relock) if lock.exists() else None)

    @property
    def manifest_path(self) -> Path:
        """Where the manifest is."""
        return self.root / MANIFEST_NAME

    @property
    def lockfile_path(self) -> Path:
        """Where the lockfile is, or would be."""
        return self.root / LOCKFILE_NAME

    def recipe_path(self, name: str) -> Path:
        """The recipe of a concept; raises PerfError when the concept is unknown or not built here."""
        entry = self.manifest.concepts.get(name)
        if entry is None:
            raise self.unknown(name)
        if entry.recipe is None:
            raise PerfError(
                f"`{name}` comes from a registry, which this version of perf cannot fetch from yet",
                where=f"{self.manifest_path}, concepts.{name}",
                hint=f'give it a recipe: `{name} = {{ recipe = "recipes/{name}.toml" }}`',
            )
        return self.root / entry.recipe

    def recipe(self, name: str) -> Recipe:
        """The checked recipe of a concept, whose name must be the manifest's."""
        path = self.recipe_path(name)
        recipe = read_recipe(path)
        if recipe.concept.name != name:
            raise PerfError(
                f"the recipe declares `{recipe.concept.name}`, but the manifest calls it `{name}`",
                where=f"{path}, concept.name",
                hint="use one name in both files",
            )
        return recipe

    def select(self, names: list[str] | None) -> list[str]:
        """These concepts, or all, as canonical names in sorted order; raises PerfError for an unknown one."""
        if not names:
            return sorted(self.manifest.concepts)
        chosen = sorted({canonical_name(name) for name in names})
        for name in chosen:
            if name not in self.manifest.concepts:
                raise self.unknown(name)
        return chosen

    def unknown(self, name: str) -> PerfError:
        """The error for a concept that the manifest does not have, with the nearest that it has."""
        near = nearest(name, list(self.manifest.concepts))
        known = ", ".join(f"`{known}`" for known in sorted(self.manifest.concepts))
        said = f"did you mean `{near}`?" if near else f"the project has {known or 'no concepts yet'}"
        return PerfError(
            f"there is no concept `{name}`; {said}",
            where=str(self.manifest_path),
            hint=f"run `perf add {name} --super WORD --images GLOB` to add it",
        )
