"""Prior pictures: what the base draws of the supercategory, encoded as they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from perfusion_registry.base import Base
from perfusion_registry.build import Covariance
from perfusion_registry.build.latents import Latents
from perfusion_registry.build.prior import draw_prior, prior_prompt
from perfusion_registry.build.training import TrainInputs, train
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.methods.table import find_method
from perfusion_registry.recipe.options import TrainingOptions
from tests.build.test_memory_saving import short
from tests.build.test_training import covariance as covariance


def drawn(base: Base, count: int, **more: Any) -> Latents:
    prompt = prior_prompt(base, "a photo of a {}", "teddy")
    return draw_prior(base, prompt, shape_of(base), count, seed=3, steps=2, guidance=4.0, **more)


def shape_of(base: Base) -> Sequence[int]:
    H, W = base.picture_size
    return tuple(base.latents(torch.zeros(1, 3, H, W)).mean.shape[1:])


def test_mirror_images_are_behind_all_pictures(tiny_base: Base) -> None:
    shown: list[Tensor] = []
    once = drawn(tiny_base, 10, flip=False)
    both = drawn(tiny_base, 10, flip=True, advance=lambda steps: shown.append(torch.tensor(steps)))
    assert torch.equal(both.mean[:10], once.mean)
    assert len(both.mean) == len(both.std) == len(both.weight) == len(both.sizes) == 20
    assert not torch.equal(both.mean[10:], once.mean)
    assert int(torch.stack(shown).sum()) == 10 * 2


def test_what_was_drawn_is_kept_over_an_interruption(
    tiny_base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, kept = drawn(tiny_base, 20, flip=True), tmp_path / "priors.safetensors"
    monkeypatch.setattr("perfusion_registry.build.prior.SECONDS", 0.0)
    asked: list[int] = []

    def until_the_tenth(steps: int) -> None:
        asked.append(steps)
        if sum(asked) > 10 * 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drawn(tiny_base, 20, flip=True, kept=kept, advance=until_the_tenth)
    calls: list[int] = []
    handle = tiny_base.denoiser.register_forward_pre_hook(lambda unet, inputs: calls.append(len(inputs[0])))
    try:
        again = drawn(tiny_base, 20, flip=True, kept=kept)
        rest = sum(calls)
        drawn(tiny_base, 20, flip=True, kept=kept)
        assert (rest, sum(calls)) == (12 * 2 * 2, rest)  # the first eight are there; then all are
        for part in ("mean", "std", "weight", "sizes"):
            assert torch.equal(getattr(again, part), getattr(whole, part))
        drawn(tiny_base, 19, flip=True, kept=kept)  # of another drawing
        assert sum(calls) == rest + 19 * 2 * 2
    finally:
        handle.remove()


@pytest.mark.parametrize("most", [3, 1])
def test_fewer_are_drawn_together_where_memory_is_short(tiny_base: Base, most: int) -> None:
    notes: list[str] = []
    steps: list[int] = []
    whole = drawn(tiny_base, 9, flip=True)
    with short(tiny_base, lambda unet, count: count <= 2 * most):  # two branches of guidance
        parts = drawn(tiny_base, 9, flip=True, note=notes.append, advance=steps.append)
    assert torch.allclose(parts.mean, whole.mean, atol=1e-3)
    assert sum(steps) == 9 * 2
    assert "pictures at a time" in notes[0]
    assert len(notes) == (2 if most == 3 else 3)
    with short(tiny_base, lambda unet, count: False), pytest.raises(torch.OutOfMemoryError):
        drawn(tiny_base, 2, flip=False)


@pytest.mark.parametrize("name", ["residuals", "dreambooth", "dreambooth-lora", "custom-diffusion"])
@pytest.mark.parametrize("learned", [False, True])
def test_prompts_are_read_once_unless_the_word_is_learned(
    tiny_base: Base, covariance: Covariance, name: str, learned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is learned from what was read once is what is learned from reading it at each step."""
    method = find_method(name)
    said = {"steps": 3, "batch": 1, "validate_every": 3, "token": "sks", "learn_token": learned}
    options = method.tables["train"].model_validate({**said, "templates": ("a photo of a {}",)})
    assert isinstance(options, TrainingOptions)
    call = method.call(options, "teddy")
    own = Prompts.of(tiny_base, options.templates, "teddy", call=call)
    plain = prior_prompt(tiny_base, options.templates[0], "teddy")
    prompts = Prompts((*own.tokens, plain), frozenset({1}))
    latents = drawn(tiny_base, 4, flip=False)
    metric = covariance.metric()
    inputs = TrainInputs(
        tiny_base, "teddy", metric, prompts, latents, options, method.trainable, call=call, priors=2
    )
    encoder: Any = tiny_base.text_models["text_encoder"]
    asked: list[int] = []
    begin = TrainInputs.begin

    def begun(inputs: TrainInputs) -> Any:
        state = begin(inputs)
        asked.clear()
        return state

    monkeypatch.setattr(TrainInputs, "begin", begun)
    handle = encoder.register_forward_hook(lambda module, inputs, output: asked.append(1))
    try:
        once = train(inputs)
    finally:
        handle.remove()
    assert len(asked) == (3 if learned else 1)
    monkeypatch.setattr("perfusion_registry.methods.encoding.PromptEncoder.prepare", lambda *_: True)
    each = train(inputs)
    for key, tensor in each.concept.state.items():
        assert torch.equal(once.concept.state[key], tensor), key
