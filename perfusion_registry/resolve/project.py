"""A project: the folder of a manifest, with its recipes and its lockfile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.files import read_manifest, read_recipe_or_pack
from perfusion_registry.recipe import (
    LOCKFILE_NAME,
    MANIFEST_NAME,
    BaseSection,
    ConceptEntry,
    Lockfile,
    Manifest,
    Pack,
    ProjectSection,
    Recipe,
    canonical_name,
    read_lockfile,
)
from perfusion_registry.suggestions import did_you_mean


class ProjectNotFoundError(PerfError):
    """There is no project where one was looked for."""


def find_root(start: Path | None = None, *, lockfile_alone: bool = False) -> Path | None:
    """The folder of the manifest: `start` (default: the working directory) or the nearest folder above it.

    lockfile_alone: a folder that has a lockfile and no manifest will do. None where there is none. Raises
    ProjectNotFoundError for a `start` that is no folder, and no manifest either.
    """
    begin = (start or Path()).absolute()
    if start is not None and not begin.is_dir() and begin.name not in (MANIFEST_NAME, LOCKFILE_NAME):
        what = "this is a file, and no folder" if begin.exists() else "there is no such folder"
        raise ProjectNotFoundError(what, where=str(start), hint="name the folder of a project")
    for folder in (begin, *begin.parents):
        if (folder / MANIFEST_NAME).is_file() or (lockfile_alone and (folder / LOCKFILE_NAME).is_file()):
            return folder
    return None


def not_found(start: Path | None) -> ProjectNotFoundError:
    """The error for a folder without a project in or above it."""
    return ProjectNotFoundError(
        f"there is no {MANIFEST_NAME} here or in any folder above",
        where=str((start or Path()).absolute()),
        hint="run `perf init` to begin a project",
    )


@dataclass(frozen=True)
class ProjectFolder:
    """A manifest and its lockfile, as they were when the project was read. root: the manifest's folder."""

    root: Path
    manifest: Manifest
    lockfile: Lockfile | None

    @classmethod
    def find(cls, start: Path | None = None, *, lockfile_alone: bool = False) -> ProjectFolder:
        """The project of `start` (default: the working directory) or of its nearest parent that has one.

        lockfile_alone: a folder that has a lockfile and no manifest will do, as `of_lockfile` reads it.
        """
        root = find_root(start, lockfile_alone=lockfile_alone)
        if root is None:
            raise not_found(start)
        return cls.open(root)

    @classmethod
    def open(cls, root: Path, *, drop_conflicts: bool = False) -> ProjectFolder:
        """The project whose manifest, or lockfile alone, is in `root`.

        drop_conflicts: the lockfile is about to be written anew, so what a merge left in conflict is left
        out.
        """
        if (root / MANIFEST_NAME).is_file():
            return cls.read(root, drop_conflicts=drop_conflicts)
        if not (root / LOCKFILE_NAME).is_file():
            raise not_found(root)
        return cls.of_lockfile(root, read_lockfile(root / LOCKFILE_NAME))

    @classmethod
    def read(cls, root: Path, *, drop_conflicts: bool = False) -> ProjectFolder:
        """The project whose manifest is in `root`; drop_conflicts as in `open`."""
        lock = root / LOCKFILE_NAME
        manifest = read_manifest(root / MANIFEST_NAME)
        lockfile = read_lockfile(lock, drop_conflicts=drop_conflicts) if lock.exists() else None
        return cls(root, manifest, lockfile)

    @classmethod
    def of_lockfile(cls, root: Path, lockfile: Lockfile) -> ProjectFolder:
        """The project that a lockfile alone describes: its base and its concepts as they are locked."""
        if lockfile.base is None:
            raise PerfError(
                "the lockfile names no base, so nothing can be drawn from it alone",
                where=str(root / LOCKFILE_NAME),
                hint="run `perf lock` in its project, and take that lockfile",
            )
        base = lockfile.base
        manifest = Manifest(
            base=said_of_base(base.prediction, base.options),
            project=ProjectSection(
                name=root.name or "project",
                base=base.repo if base.revision is None else f"{base.repo}@{base.revision}",
            ),
            concepts={
                concept.name: ConceptEntry(version=f"=={concept.version}") for concept in lockfile.concepts
            },
        )
        return cls(root, manifest, lockfile)

    @property
    def manifest_path(self) -> Path:
        """Where the manifest is."""
        return self.root / MANIFEST_NAME

    @property
    def lockfile_path(self) -> Path:
        """Where the lockfile is, or would be."""
        return self.root / LOCKFILE_NAME

    def recipe_path(self, name: str) -> Path:
        """The recipe of a concept or pack; raises PerfError when it is unknown or comes from a registry."""
        entry = self.manifest.concepts.get(name)
        if entry is None:
            raise self.unknown(name)
        if entry.recipe is None:
            raise PerfError(
                f"`{name}` comes from a registry and has no recipe here",
                where=f"{self.manifest_path}, concepts.{name}",
                hint="run `perf sync` to fetch it",
            )
        return self.root / entry.recipe

    def declared(self, name: str) -> Recipe | Pack:
        """The checked recipe of a concept or scene pack, whose name must be the manifest's."""
        path = self.recipe_path(name)
        parsed = read_recipe_or_pack(path)
        table = "pack" if isinstance(parsed, Pack) else "concept"
        declared = parsed.pack.name if isinstance(parsed, Pack) else parsed.concept.name
        if declared != name:
            raise PerfError(
                f"the recipe declares `{declared}`, but the manifest calls it `{name}`",
                where=f"{path}, {table}.name",
                hint="use one name in both files",
            )
        return parsed

    def is_pack(self, name: str) -> bool:
        """Whether the recipe of that name is a scene pack's."""
        return isinstance(self.declared(name), Pack)

    def recipe(self, name: str) -> Recipe:
        """The checked recipe of a concept; raises PerfError for a scene pack, of which nothing is built."""
        declared = self.declared(name)
        if isinstance(declared, Pack):
            raise PerfError(
                f"`{name}` is a scene pack: there is nothing to build",
                where=str(self.recipe_path(name)),
                hint=f"draw one of its scenes: `perf render --scene {name}/SCENE`",
            )
        return declared

    def local(self) -> list[str]:
        """The names of the concepts and packs that have a recipe here, sorted."""
        return sorted(name for name, entry in self.manifest.concepts.items() if entry.recipe is not None)

    def select(self, names: Sequence[str] | None) -> list[str]:
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
        known = sorted(self.manifest.concepts)
        listed = ", ".join(f"`{other}`" for other in known) or "no concepts yet"
        return PerfError(
            f"there is no concept `{name}`; {did_you_mean(name, known, f'the project has {listed}')}",
            where=str(self.manifest_path),
            hint=f"run `perf add {name} --super WORD --images GLOB` to add it",
        )


def said_of_base(prediction: str | None, options: BaseSection | None) -> BaseSection:
    """`[base]` as a lockfile repeats it."""
    said = options or BaseSection()
    if prediction is None:
        return said
    kind, *more = prediction.split()
    return said.model_copy(update={"prediction": kind, "zero_terminal_snr": more == ["zero_terminal_snr"]})
