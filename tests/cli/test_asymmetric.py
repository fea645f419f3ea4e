"""Asymmetric concepts: `perf add --no-flip`, and what is built then never saw a mirror image."""

from __future__ import annotations

from pathlib import Path

from perfusion_registry.artifact import Store, load_artifact
from perfusion_registry.recipe import read_recipe
from tests.cli.running import Perf


def test_what_is_added_without_flips_is_learned_without_mirror_images(perf: Perf, project: Path) -> None:
    made = {}
    for name, flag in (("bow", "--flip"), ("clock", "--no-flip")):
        assert perf("add", name, "--super", "pot", "--images", "photos/1.png", flag, "--steps", "1").code == 0
        recipe = project / "recipes" / f"{name}.toml"
        assert read_recipe(recipe).train.flip is (flag == "--flip")
        quick = '[train]\nmask = "none"\nvalidation_steps = 1\nvalidation_prompts = ["a photo of a {}"]\n'
        recipe.write_text(recipe.read_text(encoding="utf-8").replace("[train]\n", quick), encoding="utf-8")
        (row,) = perf("build", name, "--json").json["built"]
        made[name] = load_artifact(Store(project / "store").get(row["sha256"]))
    assert (made["bow"].card.train.flip, made["clock"].card.train.flip) == (True, False)
    outputs = [key for key in made["bow"].tensors if key.startswith("output.")]
    assert any(not made["bow"].tensors[key].equal(made["clock"].tensors[key]) for key in outputs)
