"""The plan of a project on this machine: its base, its covariance, and what is built of it.

Found without torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.artifact import Store
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.table import find_method
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import Pack
from perfusion_registry.resolve import Plan, ProjectFolder, check_encoder
from perfusion_registry.resolve import plan as resolve_plan
from perfusion_registry.resolve.covariance import covariance_if_any

if TYPE_CHECKING:
    from perfusion_registry.base import BaseDescription


@dataclass(frozen=True)
class ProjectPlan:
    """A project with everything that its plan was made from."""

    project: ProjectFolder
    store: Store
    base: BaseDescription
    plan: Plan


def load_plan(
    workspace: Workspace,
    names: Sequence[str] | None = None,
    *,
    force: bool = False,
    drop_conflicts: bool = False,
    download: bool = True,
    supercategories: Mapping[str, str] | None = None,
) -> ProjectPlan:
    """Read the project and plan its concepts `names` (default: all).

    force and supercategories as in `resolve.planning.plan`, drop_conflicts as in `Workspace.read`, download
    as in `Workspace.base`.
    """
    project = workspace.read(drop_conflicts=drop_conflicts)
    project.select(names)  # a misspelt name is reported before a base is looked for
    return plan_of(workspace, project, names, force=force, download=download, supercategories=supercategories)


def plan_of(
    workspace: Workspace,
    project: ProjectFolder,
    names: Sequence[str] | None = None,
    *,
    force: bool = False,
    download: bool = True,
    supercategories: Mapping[str, str] | None = None,
    transfers: Mapping[str, str] | None = None,
) -> ProjectPlan:
    """`load_plan` of a project that has been read. transfers: as in `resolve.planning.plan`."""
    from perfusion_registry.build import TRAINER_EPOCH

    base = workspace.base(project, download=download)
    try:
        covariance = covariance_if_any(project, base.covariance)
        if covariance is not None:
            check_encoder(covariance, base)
        plan = resolve_plan(
            project,
            workspace.store,
            base,
            covariance,
            epoch=TRAINER_EPOCH,
            names=names,
            force=force,
            supercategories=supercategories,
            transfers=transfers,
            opened=_opened,
        )
    except PerfError:
        _check_use(project, base, transfers or {})
        raise
    return ProjectPlan(project, workspace.store, base, plan)


def _opened(path: Path, mask: Path | None) -> None:
    """`build.images.open_picture`, whose libraries most plans do not need."""
    from perfusion_registry.build.images import open_picture

    open_picture(path, mask)


def _check_use(project: ProjectFolder, base: BaseDescription, transfers: Mapping[str, str]) -> None:
    """Raise PerfError where the base is made for inpainting and the project wants to learn with it: whatever
    else is wrong, mending it would be of no use."""
    if "text" in base.draws:
        return
    from perfusion_registry.base import require_trainable

    blocks = project.lockfile.concepts if project.lockfile else ()
    made = {*transfers, *(block.name for block in blocks if block.transferred)}
    for name in project.local():
        declared = project.declared(name)
        if name in made or isinstance(declared, Pack):
            continue
        if find_method(declared.concept.method).source_file(declared) is not None:
            continue
        require_trainable(base)
