"""A concept that looks built, without the training."""

from __future__ import annotations

from pathlib import Path

import torch

from perfusion_registry.artifact import Artifact, ConceptCard, save_artifact
from perfusion_registry.cli.planning import survey
from perfusion_registry.recipe import write_lockfile
from perfusion_registry.resolve import lock
from tests.cli.running import Perf


def stand_in(root: Path, name: str = "bear") -> str:
    """Put an artifact of the recipe as it is now into the store and lock it; returns its SHA-256."""
    found = survey(root, [name])
    (task,) = found.plan.tasks
    concept = task.recipe.concept
    card = ConceptCard(
        name=name,
        version=concept.version,
        supercategory=concept.supercategory,
        family=found.base.family,
        covariance=found.plan.covariance.matrix,
        recipe_digest=task.digest,
        base=found.base.repo,
        train=task.train,
        render=task.render,
        steps_kept=1,
        licence=concept.licence,
        authors=concept.authors,
        consent=concept.consent,
        description=concept.description,
    )
    numbers = torch.Generator().manual_seed(0)
    target = torch.randn(32, generator=numbers)
    tensors = {"embedding": target, "target_input": target, "target_input_dual": target}
    tensors["output.mid_block.attn2"] = torch.randn(64, generator=numbers)
    sha256 = found.store.put(save_artifact(Artifact(card, tensors)))
    found.store.record(task.digest, sha256)
    found.store.record(task.training, sha256)
    found = survey(root)
    write_lockfile(found.project.lockfile_path, lock(found.project, found.plan, found.store))
    return sha256


def release(perf: Perf, project: Path, version: str, *options: str) -> None:
    """Publish the project's bear as this version."""
    recipe = project / "recipes" / "bear.toml"
    lines = recipe.read_text(encoding="utf-8").split("\n")
    lines = [f'version = "{version}"' if line.startswith("version") else line for line in lines]
    recipe.write_text("\n".join(lines), encoding="utf-8")
    stand_in(project)
    said = perf("publish", "bear", *options)
    assert said.code == 0, said.err
