"""How similar a concept's own word is to it: measured by the build, kept by the card, shown."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import perfusion_registry as perf
from perfusion_registry.artifact import Artifact, load_artifact, save_artifact
from perfusion_registry.artifact.card import as_before
from perfusion_registry.base import Base
from perfusion_registry.cli import app
from perfusion_registry.edit import similarity
from perfusion_registry.methods.perfusion.options import RenderOptions, TrainOptions
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.rebuild import RebuildOptions, rebuild
from perfusion_registry.recipe import read_lockfile
from tests.operations.conftest import edit


def built(project: Path) -> Path:
    """The project with its concept built; the artifact."""
    home = perf.open(project)
    home.build(device="cpu")
    block = read_lockfile(project / "perfusion.lock").concept("bear")
    assert block is not None
    assert block.sha256 is not None
    with home.workspace() as workspace:
        return workspace.store.path(block.sha256)


def test_it_is_eq_4s_at_the_own_word_of_the_training_prompts(project: Path, tiny_base: Base) -> None:
    recipe = project / "recipes" / "bear.toml"
    pairs = 'pair_prompts = ["a {} beside a boat"]\nsteps = 1'
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("steps = 1", pairs, 1), encoding="utf-8")
    artifact = load_artifact(built(project))
    i, v = (artifact.tensors[name][None] for name in ("target_input", "target_input_dual"))
    train = TrainOptions.of(artifact.card.train)
    prompts = Prompts.of(tiny_base, train.templates, "teddy")
    with torch.no_grad():
        _, e = prompts.encode(tiny_base, range(len(train.templates)), [artifact.tensors["embedding"]])
        mean = float(similarity(e, i, v).mean())
    assert artifact.card.own_similarity == pytest.approx(mean, abs=6e-5)
    assert artifact.card.built.model_dump()["similarity"] == round(mean, 4)


def test_it_is_shown(project: Path) -> None:
    own = load_artifact(built(project)).card.own_similarity

    def said(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    assert json.loads(said("info", "bear", "--json"))["similarity"] == own
    assert str(own) in said("info", "bear")
    metadata = json.loads(said("metadata", "--format-version", "1"))
    assert metadata["concepts"][0]["similarity"] == own
    explained = json.loads(said("explain", "a bear*", "--json"))
    assert explained["concepts"][0]["own_similarity"] == own
    shut = " ".join(said("explain", "a bear*{bias=2,temperature=.01}").split())
    assert f"its word had a similarity of {own:.2f}" in shut


def test_a_pinned_artifact_that_does_not_say_it_is_built_again_to_the_byte(project: Path) -> None:
    artifact = load_artifact(built(project))
    older = save_artifact(Artifact(as_before(artifact.card), artifact.tensors))
    assert b"similarity" not in older
    lockfile = project / "perfusion.lock"
    digest = hashlib.sha256(older).hexdigest()
    block = read_lockfile(lockfile).concept("bear")
    assert block is not None
    assert block.sha256 is not None
    edit(
        lockfile,
        f'sha256 = "{block.sha256}"\nsize = {block.size}',
        f'sha256 = "{digest}"\nsize = {len(older)}',
    )
    with perf.open(project).workspace() as workspace:
        workspace.store.put(older)
        workspace.store.record(block.recipe_digest or "", digest)
        (again,) = rebuild(workspace, RebuildOptions(compute=ComputeOptions(device="cpu"))).rebuilt
    assert again.same_bytes
    assert again.sha256 == digest


@pytest.mark.parametrize("own", [None, 0.1234])
def test_a_rebuild_on_another_processor_may_find_another_or_the_first(
    project: Path, own: float | None
) -> None:
    artifact = load_artifact(built(project))
    name = "target_input"
    tensors = {**artifact.tensors, name: artifact.tensors[name] * (1 + 1e-6)}
    found = artifact.card.built.model_copy(update={"similarity": own})
    other = save_artifact(Artifact(artifact.card.model_copy(update={"built": found}), tensors))
    digest, lockfile = hashlib.sha256(other).hexdigest(), project / "perfusion.lock"
    block = read_lockfile(lockfile).concept("bear")
    assert block is not None
    old = f'sha256 = "{block.sha256}"\nsize = {block.size}'
    edit(lockfile, old, f'sha256 = "{digest}"\nsize = {len(other)}')
    with perf.open(project).workspace() as workspace:
        workspace.store.put(other)
        workspace.store.record(block.recipe_digest or "", digest)
        (again,) = rebuild(workspace, RebuildOptions(compute=ComputeOptions(device="cpu"))).rebuilt
    assert not again.same_bytes
    assert again.wrong == ()
    assert again.within(1e-4)


def test_a_relative_bias_is_a_share_of_it_whether_a_card_says_it_or_not(project: Path) -> None:
    path = built(project)
    artifact = load_artifact(path)
    own = artifact.card.own_similarity
    assert own is not None
    assert own > 0
    older = project / "older.safetensors"
    older.write_bytes(save_artifact(Artifact(as_before(artifact.card), artifact.tensors)))
    home = perf.open(project)
    composer = home.composer(device="cpu")
    said = composer.explain("a bear*{relative_bias=.8,temperature=.15}")
    (concept,) = said.concepts
    assert concept.bias is None
    assert concept.options == {"relative_bias": 0.8}
    for row in said.tokens:
        gate = 1 / (1 + math.exp(-(row.similarity["bear"] - 0.8 * own) / 0.15))
        assert row.gate["bear"] == pytest.approx(gate, abs=1e-3)
    again = composer.explain("a bear*{relative_bias=.8,temperature=.15}", files=[older])
    assert again.tokens == said.tokens
    absolute = composer.explain(f"a bear*{{bias={0.8 * own},temperature=.15}}")
    assert absolute.tokens == said.tokens


def test_a_recipe_may_say_a_relative_bias(project: Path) -> None:
    recipe = project / "recipes" / "bear.toml"
    recipe.write_text(
        recipe.read_text(encoding="utf-8") + "\n[render]\nrelative_bias = 0.9\n", encoding="utf-8"
    )
    card = load_artifact(built(project)).card
    assert card.render.model_dump() == RenderOptions(relative_bias=0.9).model_dump()
    assert "bias" not in card.render.model_dump()
    block = read_lockfile(project / "perfusion.lock").concept("bear")
    assert block is not None
    home = perf.open(project)
    composition = home.composer(device="cpu").compose("a bear*")
    assert composition.concept("bear").render.model_dump(include={"bias", "relative_bias"}) == {
        "relative_bias": 0.9
    }
