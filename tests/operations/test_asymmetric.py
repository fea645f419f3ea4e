"""Asymmetric concepts: added with `flip=False`, and what is built then never saw a mirror image."""

from __future__ import annotations

from pathlib import Path

from perfusion_registry.artifact import load_artifact
from perfusion_registry.methods.files import read_recipe
from perfusion_registry.operations.add import AddOptions, add
from perfusion_registry.operations.build import BuildOptions, build
from perfusion_registry.operations.workspace import Workspace
from tests.operations.conftest import edit


def test_what_is_added_without_flips_is_learned_without_mirror_images(project: Path) -> None:
    made = {}
    quick = '[train]\nmask = "none"\nvalidation_steps = 1\nvalidation_prompts = ["a photo of a {}"]\n'
    with Workspace.open(project) as workspace:
        for name, flip in (("bow", True), ("clock", False)):
            images = ("photos/1.png",)
            add(workspace, AddOptions(name=name, supercategory="pot", images=images, flip=flip, steps=1))
            recipe = project / "recipes" / f"{name}.toml"
            assert read_recipe(recipe).train.flip is flip
            edit(recipe, "[train]\n", quick)
            (row,) = build(workspace, BuildOptions(names=(name,))).built
            made[name] = load_artifact(workspace.store.get(row.sha256))
    assert (made["bow"].card.train.flip, made["clock"].card.train.flip) == (True, False)
    outputs = [key for key in made["bow"].tensors if key.startswith("offset.")]
    assert any(not made["bow"].tensors[key].equal(made["clock"].tensors[key]) for key in outputs)
