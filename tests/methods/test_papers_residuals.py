"""Residuals as their paper has them: their number, their start, their targets, and the rare word."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel

from perfusion_registry.base import Adaptation, Applied, Base, block_widths
from perfusion_registry.base.architectures.unet import residual_blocks
from perfusion_registry.build.latents import encode_latents
from perfusion_registry.build.training import TrainInputs, step_loss
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.methods.residuals.options import TrainOptions
from perfusion_registry.methods.residuals.training import new_residual
from perfusion_registry.methods.table import find_method

SD_1 = {
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "block_out_channels": (320, 640, 1280, 1280),
    "sample_size": 64,
}


def test_there_are_as_many_numbers_on_stable_diffusion_as_the_paper_says() -> None:
    """Section 4.1: r = 0.05 m, 1.2 million."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SD_1)
    widths = block_widths(residual_blocks(unet))
    dice = torch.Generator().manual_seed(0)
    residual = new_residual(widths, 0.05, dice, torch.device("cpu"), zero=False)
    assert sum(factor.numel() for pair in residual.values() for factor in pair) == 1_239_040
    for down, up in residual.values():  # both drawn, each as torch starts a linear layer of its inputs
        assert 0.9 < float(down.detach().abs().max()) * down.shape[1] ** 0.5 <= 1
        assert 0.9 < float(up.detach().abs().max()) * up.shape[1] ** 0.5 <= 1


def test_the_rare_word_and_the_supercategory_are_read_by_the_base_as_they_are(tiny_base: Base) -> None:
    method = find_method("residuals")
    options = TrainOptions(token="sks", templates=("a photo of a {}",))
    call = method.call(options, "teddy")
    assert call is not None
    assert (call.words, call.learned) == ("sks teddy", ())
    prompts = Prompts.of(tiny_base, options.templates, "teddy", call=call)
    make = method.trainable
    concept = make(tiny_base, "teddy", None, options, torch.Generator().manual_seed(0))
    given = concept.condition(prompts, [0], torch.zeros(1, dtype=torch.long))
    plain = tiny_base.encode([tiny_base.tokenise(["a photo of a sks teddy"])]).states @ tiny_base.bank.W.T
    assert torch.allclose(given.states, plain, atol=1e-6)
    own = prompts.focus[0].nonzero()[:, 0].tolist()
    words = prompts.tokens[0].words
    assert [*own] == [place for place, word in enumerate(words) if word == "sks teddy"]
    assert len(own) >= 2


def test_a_step_with_all_targets_is_the_gradient_of_changed_weights(tiny_base: Base) -> None:
    """And of a table of embeddings whose row of the rare word is learned: in a stock UNet and text
    encoder."""
    word = "teapot"  # one token, which nothing else in the prompt has
    options = TrainOptions(
        batch=1,
        rank=0.2,
        token=word,
        learn_token=True,
        targets=("proj_out", "proj_in", "kv"),
        start="random",
        templates=("a photo of a {}",),
    )
    method = find_method("residuals")
    latents = encode_latents(
        tiny_base,
        torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)),
        torch.ones(1, 1, 64, 64),
        flip=False,
    )
    call = method.call(options, "teddy")
    prompts = Prompts.of(tiny_base, options.templates, "teddy", call=call)
    inputs = TrainInputs(tiny_base, "teddy", None, prompts, latents, options, method.trainable, call=call)
    state = inputs.begin()
    concept, parameters = state.concept, state.concept.parameters
    dice = state.generator.get_state()
    adaptation = Adaptation((Applied(concept.changes(parameters), learning=True),))
    residual = concept.factors(parameters)
    with tiny_base.attached([residual], everywhere=True, adaptation=adaptation):
        loss = step_loss(inputs, state)
        loss.backward()

    pipe, again = tiny_base.pipe, torch.Generator()
    again.set_state(dice)
    for size in (1, 1):
        torch.randint(size, (1,), generator=again)
    t = torch.randint(1000, (1,), generator=again)
    shape = latents.mean.shape
    z = latents.mean + latents.std * torch.randn(shape, generator=again)
    noise = torch.randn(shape, generator=again)
    copies = {name: one.detach().clone().requires_grad_() for name, one in parameters.items()}
    weights = {}
    for name, down in copies.items():
        if "down" not in name.partition(".")[0] and not name.endswith(".lora_down"):
            continue
        if name.startswith("residual_down."):
            path, up = name[len("residual_down.") :] + ".proj_out", copies[name.replace("down", "up", 1)]
        else:
            path, up = name[len("denoiser.") : -len(".lora_down")], copies[name[: -len("down")] + "up"]
        weight = pipe.unet.get_submodule(path).weight
        weights[f"{path}.weight"] = weight + (up @ down).reshape(weight.shape)
    assert len(weights) == 2 * len(tiny_base.residual_blocks) + 2 * len(tiny_base.bank.layers)
    ids = pipe.tokenizer(f"a photo of a {word} teddy", padding="max_length", return_tensors="pt").input_ids
    (own,) = pipe.tokenizer(word, add_special_tokens=False).input_ids
    (key,) = [name for name, _ in pipe.text_encoder.named_parameters() if "token_embedding" in name]
    table = tiny_base.embedding_tables[0].weight.detach()
    assert torch.equal(copies["embedding"], table[own])
    rows = torch.where((torch.arange(len(table)) == own)[:, None], copies["embedding"], table)
    E = torch.func.functional_call(pipe.text_encoder, {key: rows}, (ids,)).last_hidden_state
    noisy = pipe.scheduler.add_noise(z, noise, t)
    answer = torch.func.functional_call(pipe.unet, weights, (noisy, t, E)).sample
    by_hand = (answer - noise).square().mean()
    by_hand.backward()
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)
    for name, theirs in copies.items():
        mine = parameters[name].grad
        assert mine is not None
        assert theirs.grad is not None
        assert float(theirs.grad.norm()) > 0
        assert float((mine - theirs.grad).norm() / theirs.grad.norm()) < 1e-3, name


def test_a_recipe_comes_to_the_papers_options() -> None:
    concept = {"name": "bear", "version": "1.0.0", "method": "residuals", "supercategory": "teddy"}
    model = find_method("residuals").recipe_model

    def resolved(**train: object) -> TrainOptions:
        recipe = model.model_validate({"concept": {**concept, "images": ("a.png",)}, "train": train})
        base = {"templates": ["a {}"], "flip": False, "steps": 7}
        options = find_method("residuals").resolve_train(recipe, base)
        assert isinstance(options, TrainOptions)
        return options

    paper = resolved()
    assert (paper.token, paper.learn_token, paper.with_supercategory) == ("sks", False, True)
    assert (paper.steps, paper.batch, paper.rank, paper.learning_rate) == (150, 4, 0.05, 1e-3)
    assert (paper.targets, paper.start, paper.templates) == (("proj_out",), "random", ("a photo of a {}",))
    assert (paper.mask, paper.flip) == ("none", False)
    assert resolved(with_supercategory=False).spelled("teddy") == "sks"
    method = find_method("residuals")
    assert method.call(resolved(token=""), "teddy") is None  # as perf had it before
    # What was built then has no such options on its card, and is read as what it is.
    older = TrainOptions.model_validate({"steps": 150, "batch": 4, "rank": 0.05})
    assert (older.token, older.start, older.targets) == ("", "zero", ("proj_out",))
    assert not {"token", "start", "targets", "learn_token"} & older.model_dump().keys()
    with pytest.raises(ValueError, match="leaves no rare word"):
        resolved(token="", learn_token=True)
    with pytest.raises(ValueError, match="a word of the supercategory 'teddy'"):
        resolved(token="Teddy")
    with pytest.raises(ValueError, match="weighs prior pictures, and there are none"):
        resolved(prior_weight=0.5)
    assert resolved(prior_pictures=3, prior_weight=0.5).prior_weight == 0.5
    custom = find_method("custom-diffusion").recipe_model
    said = {"concept": {**concept, "method": "custom-diffusion", "images": ("a.png",)}}
    custom.model_validate({**said, "train": {"prior_weight": 0.5}})  # it has prior pictures by itself
    with pytest.raises(ValueError, match="weighs prior pictures, and there are none"):
        custom.model_validate({**said, "train": {"prior_weight": 0.5, "prior_pictures": 0}})
