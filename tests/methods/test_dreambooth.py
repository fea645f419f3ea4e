"""DreamBooth beside the stock UNet and text encoder with the loss of diffusers' script; what is kept."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.without_numbers import Shape
from perfusion_registry.base import Adaptation, Applied, Base, describe_base, load_base
from perfusion_registry.base.layouts import LAYOUTS
from perfusion_registry.build.latents import encode_latents
from perfusion_registry.build.training import TrainInputs, step_loss
from perfusion_registry.errors import PerfError
from perfusion_registry.memory import free_memory
from perfusion_registry.methods.dreambooth import room
from perfusion_registry.methods.dreambooth.keeping import bytes_kept, kept
from perfusion_registry.methods.dreambooth.options import TrainOptions
from perfusion_registry.methods.dreambooth.weights import shapes
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.methods.table import find_method
from tests.pixart import save_tiny_pixart

METHOD = find_method("dreambooth")
TEMPLATE = "a photo of a {}"


def inputs_on(base: Base, options: TrainOptions, priors: int = 0) -> TrainInputs:
    pixels = torch.rand(2 + priors, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    latents = encode_latents(base, pixels, torch.ones(2 + priors, 1, 64, 64), flip=False)
    call = METHOD.call(options, "teddy")
    prompts = Prompts.of(base, [TEMPLATE], "teddy", call=call)
    if priors:
        plain = Prompts.of(base, [TEMPLATE], "teddy", spelled=True)
        prompts = Prompts((*prompts.tokens, *plain.tokens), frozenset({1}))
    return TrainInputs(
        base, "teddy", None, prompts, latents, options, METHOD.trainable, call=call, priors=priors
    )


def test_there_are_as_many_numbers_on_stable_diffusion_as_the_residuals_paper_says() -> None:
    """983 million: the UNet and the text encoder; the UNet alone is what the script learns."""
    with torch.device("meta"):
        base = Shape.of(LAYOUTS[1].folder).made(torch.float32)
    unet = sum(shape.numel() for shape in shapes(base, text=False).values())
    both = sum(shape.numel() for shape in shapes(base, text=True).values())
    assert unet == sum(weight.numel() for weight in base.denoiser.parameters()) == 859_520_964
    assert both == 982_581_444
    assert room.needed_memory(unet, 1)[0] == 4 * 4 * unet


@pytest.mark.parametrize("text", [False, True])
def test_a_step_is_the_gradient_of_the_stock_models(tiny_base: Base, text: bool) -> None:
    """As `train_dreambooth.py` has it, with a prior; at weights that have moved already."""
    options = TrainOptions(
        batch=2, prior_pictures=3, prior_weight=0.5, flip=False, text_encoder=text, templates=(TEMPLATE,)
    )
    inputs = inputs_on(tiny_base, options, priors=3)
    state, noise = inputs.begin(), torch.Generator().manual_seed(1)
    concept, parameters = state.concept, state.concept.parameters
    for difference in parameters.values():
        difference.data = 0.02 * torch.randn(difference.shape, generator=noise)
    dice = torch.Generator()
    dice.set_state(state.generator.get_state())
    before = {name: own.clone() for name, own in tiny_base.denoiser.state_dict().items()}
    adaptation = Adaptation((Applied(concept.changes(parameters), learning=True),))
    with tiny_base.attached(adaptation=adaptation):
        loss = step_loss(inputs, state)
        loss.backward()
    assert all(torch.equal(own, before[name]) for name, own in tiny_base.denoiser.state_dict().items())

    latents, pipe = inputs.latents, tiny_base.pipe
    pictures = torch.randint(2, (2,), generator=dice)
    torch.randint(1, (2,), generator=dice)
    pictures = torch.cat([pictures, 2 + torch.randint(3, (2,), generator=dice)])
    t = torch.randint(1000, (4,), generator=dice)
    shape = (4, *latents.mean.shape[1:])
    z = latents.mean[pictures] + latents.std[pictures] * torch.randn(shape, generator=dice)
    eps = torch.randn(shape, generator=dice)
    theirs = moved(tiny_base, {name: own.detach() for name, own in parameters.items()})
    texts = ["a photo of a sks teddy"] * 2 + ["a photo of a teddy"] * 2
    ids = pipe.tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    E = theirs["text_encoder"](ids).last_hidden_state
    answer = theirs["denoiser"](pipe.scheduler.add_noise(z, eps, t), t, E).sample
    (mine, prior), (wanted, wanted_prior) = answer.chunk(2), eps.chunk(2)
    by_hand = torch.nn.functional.mse_loss(mine, wanted)
    by_hand = by_hand + 0.5 * torch.nn.functional.mse_loss(prior, wanted_prior)
    by_hand.backward()
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert {name.split(".")[0] for name in parameters} == {"denoiser", *(["text_encoder"] if text else [])}
    for name, difference in parameters.items():
        expected = parameter_at(theirs, name).grad
        assert difference.grad is not None
        assert expected is not None
        assert float((difference.grad - expected).norm()) <= 1e-3 * float(expected.norm()) + 1e-7, name


def parameter_at(models: dict[str, Any], name: str) -> Tensor:
    model, _, rest = name.partition(".")
    path, _, kind = rest.rpartition(".")
    names = dict(models[model].named_parameters())
    end = {"diff": "weight", "diff_b": "bias"}[kind]
    own: Tensor = names.get(f"{path}.{end}", names.get(f"{path.removeprefix('text_model.')}.{end}"))
    return own


def moved(base: Base, differences: dict[str, Tensor]) -> dict[str, Any]:
    """The stock models with differences added to their weights."""
    models = {"denoiser": base.pipe.unet, "text_encoder": base.pipe.text_encoder}
    models = {name: copy.deepcopy(model).requires_grad_(True) for name, model in models.items()}
    with torch.no_grad():
        for name, difference in differences.items():
            parameter_at(models, name).add_(difference)
    return models


def test_of_a_difference_the_greatest_singular_values_are_kept() -> None:
    dice = torch.Generator().manual_seed(0)
    differences = {
        "denoiser.a.diff": 1e-3 * torch.randn(24, 8, 3, 3, generator=dice),
        "denoiser.b.diff": 1e-4 * torch.randn(40, 12, generator=dice) @ torch.randn(12, 30, generator=dice),
        "denoiser.c.diff": 1e-3 * torch.randn(9, generator=dice),
        "denoiser.a.diff_b": 1e-3 * torch.randn(24, generator=dice),
        "denoiser.d.diff": torch.zeros(40, 40),
    }
    whole = sum(float(one.square().sum()) for one in differences.values())
    for rank in (1, 3, 12):
        found = kept(differences, rank)
        lost = sum(
            float(torch.linalg.svdvals(differences[f"denoiser.{name}.diff"].flatten(1))[rank:].square().sum())
            for name in ("a", "b")
        )
        assert found.energy == pytest.approx(1 - lost / whole, abs=1e-3)
        for name in ("a", "b", "d"):
            own = differences[f"denoiser.{name}.diff"].flatten(1)
            u, s, vt = torch.linalg.svd(own, full_matrices=False)
            best = (u[:, :rank] * s[:rank]) @ vt[:rank]
            product = (
                found.tensors[f"denoiser.{name}.lora_up"].float()
                @ found.tensors[f"denoiser.{name}.lora_down"].float()
            )
            assert float((product - best).norm()) <= 2e-3 * float(own.norm())
        sizes = {name: one.shape for name, one in differences.items()}
        size = sum(one.numel() * one.element_size() for one in found.tensors.values())
        assert size == bytes_kept(sizes, rank)
    full = kept(differences, "full")
    assert full.energy == 1
    assert full.tensors.keys() == differences.keys()


def test_what_has_no_room_is_refused_before_anything_is_drawn(
    tiny_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    METHOD.check_base(tiny_base, "oak", TrainOptions())
    monkeypatch.setattr(room, "free_memory", lambda: 1_000_000)
    with pytest.raises(PerfError, match=r"learns [\d,]+ numbers, which takes at least .* 1.0 MB are free"):
        METHOD.check_base(tiny_base, "oak", TrainOptions())
    with torch.device("meta"):
        base = Shape.of(LAYOUTS[1].folder).made(torch.float32)
    with pytest.raises(PerfError, match=r"would be an artifact of 1\.7 GB, and"):
        METHOD.check_base(base, "oak", TrainOptions(rank="full"))


def test_a_base_with_numbers_of_no_layer_is_refused(shared: Callable[..., Path]) -> None:
    folder = shared("tiny-pixart", save_tiny_pixart)
    pixart_base = load_base(describe_base(str(folder)), device="cpu")
    with pytest.raises(PerfError, match="scale_shift_table"):
        METHOD.check_base(pixart_base, "oak", TrainOptions())


def test_free_memory_is_that_of_this_machine() -> None:
    free = free_memory()
    assert free is None or 0 < free < 2**50
