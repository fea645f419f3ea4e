"""The plan of a project on this machine: its base, its covariance, and what is built of it.

Found without torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfusion_registry.artifact import Store
from perfusion_registry.operations.workspace import Workspace
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
    )
    return ProjectPlan(project, workspace.store, base, plan)
