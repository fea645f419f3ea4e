"""The methods whose calls are a rare word, through every command: built, published, fetched, explained, drawn
beside a concept of Perfusion, exported and drawn by stock diffusers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import perfusion_registry as perf
from perfusion_registry.artifact import Artifact, load_artifact
from perfusion_registry.base import Base
from perfusion_registry.cache_folder import CACHE_VARIABLE
from perfusion_registry.operations.compose import PromptOptions
from perfusion_registry.operations.export import SEEDS, ExportOptions, ExportResult, export
from perfusion_registry.operations.info import info
from perfusion_registry.operations.init import init
from perfusion_registry.operations.job import RenderOverrides, load_job
from perfusion_registry.recipe import read_lockfile
from perfusion_registry.render.draw import render
from tests.operations.conftest import edit
from tests.operations.test_export import CPU, levels, stock, with_token
from tests.operations.test_export import drawn as drawn_by

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


def by_stock(base: Path, exported: ExportResult) -> list[Image.Image]:
    """The pictures of diffusers' own pipeline and loaders with the files of an export."""
    pipe = stock(base)
    for file in exported.files:
        path = Path(file.path)
        if file.holds == "lora":
            pipe.load_lora_weights(str(path.parent), weight_name=path.name)
        else:
            with_token(pipe, path, exported.word or "")
    return drawn_by(pipe, exported.prompt)


def what_leaves(home: perf.Project, artifact: Artifact) -> list[Image.Image]:
    """The concept's own pictures without what a LoRA has no place for: biases, norms, embeddings."""
    tensors = {
        name: tensor
        for name, tensor in artifact.tensors.items()
        if not name.endswith(".diff_b")
        and not (name.endswith(".diff") and tensor.ndim < 2)
        and "_embedding." not in name
    }
    with home.workspace() as workspace:
        job = load_job(
            workspace, PromptOptions(prompt="a photo of a oak*", compute=CPU), RenderOverrides(seeds=SEEDS)
        )
        left = {"oak": Artifact(artifact.card, tensors)}
        drawn = render(job.loaded.base, job.loaded.composition, job.request, left)
    return [one.image for one in drawn]


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
        told = info(workspace, "oak")
    assert told.energy == artifact.card.energy
    if method == "dreambooth":  # whose norms and biases no LoRA has
        assert 0 < (told.energy or 0) < 1
        assert 0.2 < exported.pictures < exported.plain
    else:
        assert exported.pictures < 0.2 < 1 < exported.plain
        assert exported.sentence.startswith("It draws what the concept draws")
    assert levels(by_stock(tiny_base_folder, exported), what_leaves(home, artifact)) < 0.03 * exported.plain

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
