"""The methods whose calls are a rare word, through every command: built, published, fetched, explained, drawn
beside a concept of Perfusion, exported and drawn by stock diffusers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import perfusion_registry as perf
from perfusion_registry.artifact import load_artifact
from perfusion_registry.base import Base
from perfusion_registry.cache_folder import CACHE_VARIABLE
from perfusion_registry.operations.export import ExportOptions, export
from perfusion_registry.operations.init import init
from perfusion_registry.recipe import read_lockfile
from tests.operations.conftest import edit

QUICK = """
[concept]
name = "oak"
version = "1.0.0"
method = "{method}"
supercategory = "teddy"
images = ["../photos/*.png"]
licence = "MIT"
authors = ["a"]

[train]
steps = 3
batch = 1
learning_rate = {rate}
validate_every = 2
validation_steps = 1
validation_prompts = ["a photo of a {{}}"]
{more}
"""
METHODS = {
    "residuals": (0.05, "rank = 0.2", "lag = 'off'", "sks teddy"),
    "custom-diffusion": (0.01, "prior_pictures = 2", "", "ktn teddy"),
    "dreambooth-lora": (0.05, "prior_pictures = 2\nlearn_token = true", "", "sks teddy"),
    "dreambooth": (0.002, "prior_pictures = 2\nrank = 4\ntext_encoder = true", "", "sks teddy"),
}


def write(project: Path, method: str) -> None:
    rate, more, render, _ = METHODS[method]
    text = QUICK.format(method=method, rate=rate, more=more) + f"\n[render]\n{render}\n"
    (project / "recipes" / "oak.toml").write_text(text, encoding="utf-8")
    edit(project / "perfusion.toml", "bear = {", 'oak = { recipe = "recipes/oak.toml" }\nbear = {')


@pytest.mark.parametrize("method", METHODS)
def test_from_a_recipe_through_a_registry_to_a_picture(
    project: Path, tiny_base: Base, tiny_base_folder: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, method)
    home = perf.open(project)
    home.build(device="cpu")
    block = read_lockfile(project / "perfusion.lock").concept("oak")
    assert block is not None
    with home.workspace() as workspace:
        artifact = load_artifact(workspace.store.get(block.sha256 or ""))
    assert artifact.card.word == METHODS[method][3]
    assert (artifact.card.covariance is not None) == (method == "custom-diffusion")
    (again,) = home.build("oak", force=True, device="cpu").built
    assert again.sha256 == block.sha256
    with home.workspace() as workspace:
        exported = export(workspace, ExportOptions(name="oak", form="lora"))
    if method == "dreambooth":  # whose norms and biases no LoRA has
        assert exported.pictures < exported.plain
    else:
        assert exported.pictures < 0.2 < 1 < exported.plain  # the very pictures of stock diffusers
        assert exported.sentence.startswith("It draws what the concept draws")

    composer = perf.Composer(home.workspace, tiny_base)

    def drawn(prompt: str, by: perf.Composer = composer) -> np.ndarray:
        return np.asarray(next(iter(by.render(prompt, steps=3))).image, int)

    (setting,) = {"residual", "strength"} & {one.key for one in composer.compose("an oak*").settings()}
    assert np.array_equal(drawn(f"a oak*{{{setting}=0}} in the snow"), drawn("a teddy in the snow"))
    both = composer.compose("an oak* beside a bear*")
    assert [concept.method for concept in both.concepts] == [method, "perfusion"]
    assert {name for row in composer.explain(both.prompt).tokens for name in row.gate} == {"bear"}
    assert not np.array_equal(drawn("an oak* beside a bear*"), drawn("a teddy beside a bear*"))

    home.publish("oak", registry=str(project / "gallery"))
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv(CACHE_VARIABLE, str(project / "other-store"))
    init(elsewhere, base=str(tiny_base_folder))
    there = perf.open(elsewhere)
    there.add_release("studio/oak", registry=str(project / "gallery"))
    there.lock()
    there.sync()
    guest = perf.Composer(there.workspace, tiny_base)
    assert np.array_equal(drawn("a oak* in the snow", guest), drawn("a oak* in the snow"))
