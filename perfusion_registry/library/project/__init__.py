"""A project in a program: every method is an operation of the package manager, as the commands call it."""

from __future__ import annotations

from perfusion_registry.library.project.artifacts import ProjectArtifacts
from perfusion_registry.library.project.concepts import ProjectConcepts
from perfusion_registry.library.project.exports import ProjectExports
from perfusion_registry.library.project.pictures import ProjectPictures
from perfusion_registry.library.project.registries import ProjectRegistries


class Project(ProjectConcepts, ProjectArtifacts, ProjectRegistries, ProjectPictures, ProjectExports):
    """A project, from `open`, `create` or `sync_lockfile`.

    Each method is one operation and returns its result, a frozen model whose `printed()` is what the command
    of the same name prints with `--json`. All raise PerfError, which says what to do next. Threads may share
    a project as far as they may share its files.
    """
