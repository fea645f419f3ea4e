"""Residuals as a method: one step by hand, and from a recipe to a prompt that it shares with perfusion."""

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
from perfusion_registry.methods.residuals.options import TrainOptions
from perfusion_registry.methods.table import find_method
from perfusion_registry.recipe import read_lockfile
from tests.operations.conftest import edit

OAK = """\
[concept]
name = "oak"
version = "1.0.0"
method = "residuals"
supercategory = "teddy"
images = ["../photos/*.png"]

[train]
steps = 4
batch = 1
rank = 0.2
learning_rate = 0.1
validate_every = 4
validation_steps = 1
validation_prompts = ["a photo of a {}"]

[render]
residual = 0.9
"""


def test_one_step_is_the_gradient_of_a_denoiser_with_low_rank_weights(tiny_base: Base) -> None:
    """W + B A in the place of each output projection's weight W, in a stock UNet and text encoder."""
    options = TrainOptions(batch=1, rank=0.2, templates=("a photo of a {}",))
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    latents = encode_latents(tiny_base, pixels, torch.ones(1, 1, 64, 64), flip=False)
    prompts = Prompts.of(tiny_base, options.templates, "teddy")
    make = find_method("residuals").trainable
    inputs = TrainInputs(tiny_base, "teddy", None, prompts, latents, options, make)
    state = inputs.begin()
    learned = state.concept.parameters
    draw = torch.Generator().manual_seed(7)
    for name, factor in learned.items():  # away from B = 0, where A has no gradient
        if name.startswith("residual_up."):
            factor.data = 0.1 * torch.randn(factor.shape, generator=draw)
    residual = state.concept.factors(learned)
    with tiny_base.attached([residual], everywhere=True):
        loss = step_loss(inputs, state)
        loss.backward()

    pipe, dice = tiny_base.pipe, torch.Generator().manual_seed(options.seed)
    for down, _ in residual.values():
        torch.randn(down.shape, generator=dice)
    for size in (1, 1):  # which picture, which prompt
        torch.randint(size, (1,), generator=dice)
    t = torch.randint(1000, (1,), generator=dice)
    shape = latents.mean.shape
    z = latents.mean + latents.std * torch.randn(shape, generator=dice)
    noise = torch.randn(shape, generator=dice)
    ids = pipe.tokenizer("a photo of a teddy", padding="max_length", return_tensors="pt").input_ids
    copies = {
        path: tuple(factor.detach().clone().requires_grad_() for factor in factors)
        for path, factors in residual.items()
    }
    weights = {
        f"{path}.proj_out.weight": (up @ down).reshape(pipe.unet.get_submodule(path).proj_out.weight.shape)
        + pipe.unet.get_submodule(path).proj_out.weight
        for path, (down, up) in copies.items()
    }
    E = pipe.text_encoder(ids).last_hidden_state
    noisy = pipe.scheduler.add_noise(z, noise, t)
    answer = torch.func.functional_call(pipe.unet, weights, (noisy, t, E)).sample
    by_hand = (answer - noise).square().mean()
    by_hand.backward()
    assert len(copies) == len(tiny_base.residual_blocks)
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)
    for path, (down, up) in copies.items():
        for mine, theirs in zip(residual[path], (down, up), strict=True):
            assert mine.grad is not None
            assert theirs.grad is not None
            assert float(theirs.grad.norm()) > 0
            assert float((mine.grad - theirs.grad).norm() / theirs.grad.norm()) < 1e-3


def test_from_a_recipe_to_a_prompt_with_a_perfusion_concept(project: Path, tiny_base: Base) -> None:
    (project / "recipes" / "oak.toml").write_text(OAK, encoding="utf-8")
    edit(project / "perfusion.toml", "bear = {", 'oak = { recipe = "recipes/oak.toml" }\nbear = {')
    home = perf.open(project)
    assert {row.name for row in home.build(device="cpu").built} == {"bear", "oak"}
    block = read_lockfile(project / "perfusion.lock").concept("oak")
    assert block is not None
    assert (block.method, dict(block.render)) == ("residuals", {"residual": 0.9})
    with home.workspace() as workspace:
        artifact = load_artifact(workspace.store.get(block.sha256 or ""))
    blocks = {part.path for part in tiny_base.residual_blocks}
    assert set(artifact.tensors) == {f"residual_{side}.{path}" for side in ("down", "up") for path in blocks}
    assert any(bool(tensor.any()) for name, tensor in artifact.tensors.items() if "_up." in name)
    assert artifact.card.covariance is None
    assert artifact.card.train.model_dump()["rank"] == 0.2
    (again,) = home.build("oak", force=True, device="cpu").built
    assert again.sha256 == block.sha256

    composer = perf.Composer(home.workspace, tiny_base)

    def drawn(prompt: str) -> np.ndarray:
        return np.asarray(next(iter(composer.render(prompt, steps=2))).image, int)

    both = composer.compose("an oak*{residual=.5} beside a bear*")
    assert [concept.method for concept in both.concepts] == ["residuals", "perfusion"]
    assert both.concept("oak").render.model_dump() == {"residual": 0.5}
    explained = composer.explain(both.prompt)
    assert explained.concepts[0].residual == 0.9
    assert {name for row in explained.tokens for name in row.gate} == {"bear"}
    plain = drawn("a teddy in the snow")
    assert np.array_equal(drawn("a oak*{residual=0} in the snow"), plain)
    assert not np.array_equal(drawn("a oak* in the snow"), plain)
    with pytest.raises(perf.PerfError, match="'bias' is no option of oak"):
        composer.compose("an oak*{bias=.5}")
    with pytest.raises(perf.PerfError, match="no concept that the prompt calls has a bias"):
        composer.compose("an oak*", gates={"bias": 0.5})
    assert composer.compose("an oak*").concept("oak").said == "sks teddy"
    pictures = [drawn(f"a oak*{{lag={lag}}} beside a bear*") for lag in ("ramp", "median", "off")]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not np.array_equal(pictures[one], pictures[other])
    general = composer.compose("an oak* beside a bear*", gates={"lag": "median"})
    assert general.concept("oak").render.model_dump() == {"residual": 0.9, "lag": "median"}


def test_what_is_in_front_of_the_map_is_drawn_everywhere_or_refused(project: Path, tiny_base: Base) -> None:
    text = OAK.replace("rank = 0.2", 'rank = 0.2\ntargets = ["kv", "proj_in"]')
    (project / "recipes" / "oak.toml").write_text(text, encoding="utf-8")
    edit(project / "perfusion.toml", "bear = {", 'oak = { recipe = "recipes/oak.toml" }\nbear = {')
    home = perf.open(project)
    home.build("oak", device="cpu")
    composer = perf.Composer(home.workspace, tiny_base)
    assert composer.compose("an oak*").concept("oak").render.model_dump() == {"residual": 0.9, "lag": "off"}
    one, other = (
        np.asarray(next(iter(composer.render(prompt, steps=2))).image, int)
        for prompt in ("a oak* in the snow", "a oak*{residual=0} in the snow")
    )
    assert not np.array_equal(one, other)
    with pytest.raises(perf.PerfError, match="only those of proj_out alone can be drawn where it is"):
        composer.compose("an oak*{lag=median}")
