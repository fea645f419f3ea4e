"""DreamBooth with LoRA beside peft and the loss of diffusers' script, and through all commands."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from peft import LoraConfig

from perfusion_registry.base import Adaptation, Applied, Base
from perfusion_registry.build.latents import encode_latents
from perfusion_registry.build.training import TrainInputs, step_loss, training_step
from perfusion_registry.methods.dreambooth_lora.options import TrainOptions
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.methods.table import find_method, resolve_train


@pytest.mark.parametrize("most", [0.0, 0.01, 100.0])
def test_gradients_are_clipped_as_diffusers_script_clips_them(tiny_base: Base, most: float) -> None:
    """To one norm for all of them together (`accelerator.clip_grad_norm_`, `max_grad_norm`)."""
    method = find_method("dreambooth-lora")
    options = TrainOptions(rank=2, max_grad_norm=most, flip=False, templates=("a photo of a {}",))
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    latents = encode_latents(tiny_base, pixels, torch.ones(1, 1, 64, 64), flip=False)
    call = method.call(options, "teddy")
    prompts = Prompts.of(tiny_base, options.templates, "teddy", call=call)
    inputs = TrainInputs(tiny_base, "teddy", None, prompts, latents, options, method.trainable, call=call)
    norms = []
    for clipped in (options, options.model_copy(update={"max_grad_norm": 0.0})):
        state = dataclasses.replace(inputs, options=clipped).begin()
        parameters = state.concept.parameters
        adaptation = Adaptation((Applied(state.concept.changes(parameters), learning=True),))
        with tiny_base.attached(adaptation=adaptation):
            training_step(inputs, state)
        own = [factor.grad for factor in parameters.values() if factor.grad is not None]
        norms.append(float(torch.cat([one.flatten() for one in own]).norm()))
    assert norms[0] == pytest.approx(min(norms[1], most or norms[1]), rel=1e-4)
    assert norms[1] > 0.01
    recipe = method.recipe_model.model_validate(
        {"concept": {"name": "a", "version": "1.0.0", "method": method.name, "supercategory": "teddy",
                     "images": ("a.png",)}}
    )  # fmt: skip
    assert resolve_train(recipe, {}).model_dump()["max_grad_norm"] == 1.0


def test_a_step_with_a_prior_is_that_of_peft_and_diffusers_script(tiny_base: Base) -> None:
    """As `train_dreambooth_lora.py` has it: the UNet with peft's adapter, pictures and prompts of the concept
    and of its class behind each other, the answer in two halves, and the sum of both losses."""
    options = TrainOptions(rank=2, batch=2, token="sks", prior_pictures=3, prior_weight=0.5, flip=False)
    method, noise = find_method("dreambooth-lora"), torch.Generator().manual_seed(0)
    pixels = torch.rand(5, 3, 64, 64, generator=noise)
    latents = encode_latents(tiny_base, pixels, torch.ones(5, 1, 64, 64), flip=False)
    template = "a photo of a {}"
    call = method.call(options, "teddy")
    own = Prompts.of(tiny_base, [template], "teddy", call=call)
    plain = Prompts.of(tiny_base, [template], "teddy", spelled=True)
    prompts = Prompts((*own.tokens, *plain.tokens), frozenset({1}))
    options = options.model_copy(update={"templates": (template,)})
    inputs = TrainInputs(
        tiny_base, "teddy", None, prompts, latents, options, method.trainable, call=call, priors=3
    )
    state = inputs.begin()
    concept, parameters = state.concept, state.concept.parameters
    for name, factor in parameters.items():  # away from B = 0, where A has no gradient
        if name.endswith("lora_up"):
            factor.data = 0.1 * torch.randn(factor.shape, generator=noise)
    dice = torch.Generator()
    dice.set_state(state.generator.get_state())
    adaptation = Adaptation((Applied(concept.changes(parameters), learning=True),))
    with tiny_base.attached(adaptation=adaptation):
        loss = step_loss(inputs, state)
        loss.backward()

    pictures = torch.randint(2, (2,), generator=dice)
    torch.randint(1, (2,), generator=dice)
    pictures = torch.cat([pictures, 2 + torch.randint(3, (2,), generator=dice)])
    t = torch.randint(1000, (4,), generator=dice)
    shape = (4, *latents.mean.shape[1:])
    z = latents.mean[pictures] + latents.std[pictures] * torch.randn(shape, generator=dice)
    eps = torch.randn(shape, generator=dice)
    unet, pipe = copy.deepcopy(tiny_base.pipe.unet), tiny_base.pipe
    layers = ["to_k", "to_q", "to_v", "to_out.0"]
    unet.add_adapter(LoraConfig(r=2, lora_alpha=2, init_lora_weights="gaussian", target_modules=layers))
    theirs = {name: one for name, one in unet.named_parameters() if one.requires_grad}
    names = {}
    for name, factor in parameters.items():
        path, _, side = name.removeprefix("denoiser.").rpartition(".")
        names[name] = f"{path}.lora_{'A' if side == 'lora_down' else 'B'}.default.weight"
        theirs[names[name]].data = factor.detach().clone()
    assert set(names.values()) == set(theirs)
    texts = ["a photo of a sks teddy"] * 2 + ["a photo of a teddy"] * 2
    ids = pipe.tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    E = pipe.text_encoder(ids).last_hidden_state
    answer = unet(pipe.scheduler.add_noise(z, eps, t), t, E).sample
    (mine, prior), (wanted, wanted_prior) = answer.chunk(2), eps.chunk(2)
    by_hand = torch.nn.functional.mse_loss(mine, wanted)
    by_hand = by_hand + 0.5 * torch.nn.functional.mse_loss(prior, wanted_prior)
    by_hand.backward()
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)
    for name, factor in parameters.items():
        assert factor.grad is not None
        expected = theirs[names[name]].grad
        assert float(expected.norm()) > 0
        assert float((factor.grad - expected).norm() / expected.norm()) < 1e-3, name
