"""Textual inversion: one step by hand, and from a recipe to a prompt that it shares with perfusion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import perfusion_registry as perf
from perfusion_registry.artifact import load_artifact
from perfusion_registry.base import Base
from perfusion_registry.build.latents import encode_latents
from perfusion_registry.build.training import TrainInputs, step_loss
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.methods.table import find_method
from perfusion_registry.methods.textual_inversion.options import TrainOptions
from perfusion_registry.recipe import read_lockfile

OAK = """\
[concept]
name = "oak"
version = "1.0.0"
method = "textual-inversion"
supercategory = "teddy"
images = ["../photos/*.png"]
licence = "CC0-1.0"
authors = ["A. N. Author"]
consent = "it is mine"

[train]
steps = 2
batch = 1
learning_rate = 0.05
validate_every = 1
validation_steps = 1
validation_prompts = ["a photo of a {}"]
"""


def test_one_step_is_the_gradient_of_the_untouched_denoiser(tiny_base: Base) -> None:
    """The token's embedding in a stock text encoder and UNet; the bank's slices compute the same."""
    options = TrainOptions(batch=1, templates=("a photo of a {}",))
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    latents = encode_latents(tiny_base, pixels, torch.ones(1, 1, 64, 64), flip=False)
    prompts = Prompts.of(tiny_base, options.templates, "teddy")
    make = find_method("textual-inversion").trainable
    inputs = TrainInputs(tiny_base, "teddy", None, prompts, latents, options, make)
    state = inputs.begin()
    with tiny_base.attached():
        loss = step_loss(inputs, state)
        loss.backward()

    pipe, dice = tiny_base.pipe, torch.Generator().manual_seed(options.seed)
    shape = latents.mean.shape
    for size in (1, 1):  # which picture, which prompt
        torch.randint(size, (1,), generator=dice)
    t = torch.randint(1000, (1,), generator=dice)
    z = latents.mean + latents.std * torch.randn(shape, generator=dice)
    noise = torch.randn(shape, generator=dice)
    ids = pipe.tokenizer("a photo of a teddy", padding="max_length", return_tensors="pt").input_ids
    table = pipe.text_encoder.get_input_embeddings()
    token = int(ids[0, 5])
    embedding = table.weight[token].detach().clone().requires_grad_()
    hook = table.register_forward_hook(
        lambda module, read, out: torch.where((read[0] == token)[..., None], embedding, out)
    )
    try:
        E = pipe.text_encoder(ids).last_hidden_state
    finally:
        hook.remove()
    answer = pipe.unet(pipe.scheduler.add_noise(z, noise, t), t, E).sample
    by_hand = (answer - noise).square().mean()
    by_hand.backward()
    learned = state.concept.parameters["embedding"]
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert learned.grad is not None
    assert embedding.grad is not None
    assert float((learned.grad - embedding.grad).norm() / embedding.grad.norm()) < 1e-3
    assert float(embedding.grad.norm()) > 0


def test_from_a_recipe_to_a_prompt_with_a_perfusion_concept(project: Path, tiny_base: Base) -> None:
    manifest = project / "perfusion.toml"
    (project / "recipes" / "oak.toml").write_text(OAK, encoding="utf-8")
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(
        text.replace("bear = {", 'oak = { recipe = "recipes/oak.toml" }\nbear = {', 1), encoding="utf-8"
    )
    home = perf.open(project)
    assert {row.name for row in home.build(device="cpu").built} == {"bear", "oak"}
    lock = read_lockfile(project / "perfusion.lock")
    block = lock.concept("oak")
    assert block is not None
    assert (lock.version, block.method, dict(block.render)) == (2, "textual-inversion", {})
    with home.workspace() as workspace:
        artifact = load_artifact(workspace.store.get(block.sha256 or ""))
    assert set(artifact.tensors) == {"embedding"}
    assert (artifact.card.schema_version, artifact.card.covariance) == (2, None)
    assert home.build(device="cpu").built == ()
    (again,) = home.build("oak", force=True, device="cpu").built
    assert again.sha256 == block.sha256

    composer = perf.Composer(home.workspace, tiny_base)
    prompt = "an oak* beside a bear*"
    both = composer.compose(prompt)
    assert [concept.method for concept in both.concepts] == ["textual-inversion", "perfusion"]
    assert both.schema_version == 2
    explained = composer.explain(prompt)
    assert {name for row in explained.tokens for name in row.gate} == {"bear"}
    pictures = [next(iter(composer.render(text))).image for text in (prompt, "a teddy beside a bear*")]
    assert not np.array_equal(*(np.asarray(picture) for picture in pictures))
    with pytest.raises(perf.PerfError, match="`bias` is set for 'oak'"):
        composer.compose("an oak*{bias=.5}")

    finder = str(project / "finder")
    assert [row.release.format for row in home.publish("oak", registry=finder).releases] == [2]
    (project / "away").mkdir()
    (project / "away" / "perfusion.toml").write_text(
        f'''[project]
name = "away"
base = "{tiny_base.description.folder}"
covariance = "../C.safetensors"

[concepts]
oak = {{ version = ">=1", registry = "studio" }}

[registries]
studio = "{finder}"
''',
        encoding="utf-8",
    )
    away = perf.open(project / "away", store=project / "store-away")
    away.sync()
    synced = read_lockfile(project / "away" / "perfusion.lock").concept("oak")
    assert synced is not None
    assert (synced.sha256, synced.method) == (block.sha256, "textual-inversion")
