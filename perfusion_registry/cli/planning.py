"""The plan of a project on this machine: its base, covariance and store, found without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.artifact import Store, cache_dir
from perfusion_registry.artifact.lockfiles import note_lockfile
from perfusion_registry.resolve import Plan, Project, find_covariance, plan

if TYPE_CHECKING:
    from perfusion_registry.base import BaseDescription


@dataclass(frozen=True)
class Survey:
    """A project with everything that its plan was made from."""

    project: Project
    store: Store
    base: BaseDescription
    plan: Plan


def survey(
    start: Path | None,
    names: list[str] | None = None,
    *,
    force: bool = False,
    relock: bool = False,
    offline: bool = False,
    supercategories: Mapping[str, str] | None = None,
) -> Survey:
    """Read the project of `start` and plan its concepts `names` (default: all).

    force and supercategories as in `plan`, relock as in `Project.find`. offline: a base that is not here is
    not downloaded, whatever the environment allows.
    """
    project = Project.find(start, relock=relock)
    project.select(names)  # a misspelt name is told before a base is looked for
    return survey_of(project, names, force=force, offline=offline, supercategories=supercategories)


def survey_of(
    project: Project,
    names: list[str] | None = None,
    *,
    force: bool = False,
    offline: bool = False,
    supercategories: Mapping[str, str] | None = None,
) -> Survey:
    """`survey` of a project that has been read."""
    from perfusion_registry.base import describe_base
    from perfusion_registry.build import TRAINER_EPOCH

    store = Store(cache_dir())
    note_lockfile(store.root, project.lockfile_path)
    allowed = False if offline else None
    base = describe_base(project.manifest.project.base, root=project.root, allow_download=allowed)
    covariance = find_covariance(project, base.covariance)
    made = plan(
        project,
        store,
        base,
        covariance,
        epoch=TRAINER_EPOCH,
        names=names,
        force=force,
        supercategories=supercategories,
    )
    return Survey(project, store, base, made)
