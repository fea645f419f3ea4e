"""A concept that looks built, without the training."""

from __future__ import annotations

from pathlib import Path

import torch

from perfusion_registry.artifact import Artifact, ConceptCard, save_artifact
from perfusion_registry.methods.perfusion.options import Built
from perfusion_registry.operations.plan import load_plan
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import write_lockfile
from perfusion_registry.resolve import lock


def stand_in(root: Path, name: str = "bear", *, form: int = 1) -> str:
    """Put an artifact of the recipe as it is now into the store and lock it; returns its SHA-256.

    form: the format of its card.
    """
    with Workspace.open(root) as workspace:
        return _stand_in(workspace, name, form)


def _stand_in(workspace: Workspace, name: str, form: int) -> str:
    planned = load_plan(workspace, [name])
    (task,) = planned.plan.tasks
    concept = task.recipe.concept
    card = ConceptCard(
        name=name,
        version=concept.version,
        supercategory=concept.supercategory,
        family=planned.base.family,
        recipe_digest=task.digest,
        base=planned.base.repo,
        train=task.train,
        render=task.render,
        built=Built(covariance=planned.plan.covariance.matrix, step=1),
        schema_version=form,
        licence=concept.licence,
        authors=concept.authors,
        consent=concept.consent,
        description=concept.description,
    )
    numbers = torch.Generator().manual_seed(0)
    target = torch.randn(32, generator=numbers)
    tensors = {"embedding": target, "target_input": target, "target_input_dual": target}
    tensors["output.mid_block.attn2"] = torch.randn(64, generator=numbers)
    sha256 = planned.store.put(save_artifact(Artifact(card, tensors)))
    planned.store.record(task.digest, sha256)
    planned.store.record(task.training, sha256)
    planned = load_plan(workspace)
    write_lockfile(planned.project.lockfile_path, lock(planned.project, planned.plan, planned.store))
    return sha256
