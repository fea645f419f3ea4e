"""What a training step costs, on the embedded base: beside the UNet's own forward and backward pass, and
beside the loops of diffusers' examples for textual inversion and Custom Diffusion, as the scripts have it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from benchmarks.bench.drawing import QUICK, storybook
from benchmarks.bench.turns import Pair, Row
from benchmarks.concepts import sources_of
from perfusion_registry.base import Base
from perfusion_registry.build import load_covariance
from perfusion_registry.build.concept import training_inputs
from perfusion_registry.build.state import TrainState
from perfusion_registry.build.training import TrainInputs, repeatable, training_step
from perfusion_registry.methods.perfusion import METHOD
from perfusion_registry.methods.perfusion.options import PerfusionRecipe
from perfusion_registry.recipe.recipe import LearnedSection
from perfusion_registry.reporter import Silent

STEPS_AT_ONCE = 3


def rows() -> list[Row]:
    """A step as the base's card has it, residual included, and one without the residual."""
    ours, alone = "a training step", "a training step without a residual"
    return [
        Row(alone, "the UNet forward and backward", partial(_beside, _bare, residual=False), 1.05),
        Row(ours, "the UNet forward and backward", partial(_beside, _bare, residual=True)),
        Row(alone, "diffusers' textual inversion", partial(_beside, _textual_inversion, residual=False)),
        Row(alone, "diffusers' Custom Diffusion", partial(_beside, _custom_diffusion, residual=False)),
    ]


@contextmanager
def _beside(other: Callable[[Base, TrainInputs], Callable[[], None]], *, residual: bool) -> Iterator[Pair]:
    base = storybook()
    inputs = of_a_teddy(base, residual=residual)
    state, step = inputs.begin(), other(base, inputs)

    def ours() -> None:
        stepped(base, inputs, state, count=STEPS_AT_ONCE)

    def beside() -> None:
        for _ in range(STEPS_AT_ONCE):
            step()

    with repeatable(base.device):
        yield ours, beside


def stepped(base: Base, inputs: TrainInputs, state: TrainState, *, count: int) -> None:
    """So many steps of ours, of which the first also attaches the bank."""
    factors = state.concept.factors(state.concept.parameters)
    with base.attached([factors] if factors else [], everywhere=True):
        for _ in range(count):
            training_step(inputs, state)


def of_a_teddy(base: Base, *, residual: bool) -> TrainInputs:
    """What a training of a drawn teddy begins with, by the options of the base's card."""
    card = base.description.card
    section = LearnedSection(name="teddy", version="1.0.0", supercategory="teddy", images=("*.png",))
    train = {**QUICK} if residual else {**QUICK, "residual_rank": 0.0}
    options = METHOD.resolve_train(PerfusionRecipe(concept=section, train=train), card.train)
    sources = sources_of("teddy")
    covariance = load_covariance(base.description.covariance)
    return training_inputs(METHOD.trainable, METHOD, base, covariance, sources, options, Silent())[0]


def _batch(base: Base, inputs: TrainInputs, unet: Any) -> Callable[[Tensor], Tensor]:
    """The loss of one batch of the size that ours has, by what the UNet reads of its prompts (B, n, d)."""
    size = inputs.options.batch
    latents = inputs.latents.mean
    random = torch.Generator().manual_seed(0)

    def loss(states: Tensor) -> Tensor:
        shown = latents[torch.randint(len(latents), (size,), generator=random)]
        noise = torch.randn(shown.shape, generator=random)
        t = torch.randint(base.noise_steps, (size,), generator=random)
        return mse_loss(unet(shown + noise, t, states).sample, noise)

    return loss


def _prompts(base: Base, inputs: TrainInputs) -> Tensor:
    """Token ids (B, n) of a batch's prompts."""
    templates = inputs.options.templates
    rows = [
        base.tokenise([templates[k % len(templates)].format("teddy")]) for k in range(inputs.options.batch)
    ]
    return torch.tensor([row.ids[0] for row in rows])


def _bare(base: Base, inputs: TrainInputs) -> Callable[[], None]:
    """Forward, and back to what it reads."""
    pipe: Any = base.pipe
    with torch.no_grad():
        states = pipe.text_encoder(_prompts(base, inputs))[0]
    states, loss = states.clone().requires_grad_(), _batch(base, inputs, base.denoiser)

    def step() -> None:
        states.grad = None
        loss(states).backward()

    return step


def _textual_inversion(base: Base, inputs: TrainInputs) -> Callable[[], None]:
    """As `examples/textual_inversion`: AdamW over the whole table of embeddings, other rows put back."""
    pipe: Any = base.pipe
    text = _copied(pipe.text_encoder)
    table = text.get_input_embeddings().weight.requires_grad_()
    optimiser = torch.optim.AdamW([table], lr=5e-4)
    ids, loss = _prompts(base, inputs), _batch(base, inputs, base.denoiser)
    before = table.detach().clone()
    kept = torch.ones(len(table), dtype=torch.bool)
    kept[int(ids[0, 1])] = False

    def step() -> None:
        loss(text(ids)[0]).backward()
        optimiser.step()
        optimiser.zero_grad()
        with torch.no_grad():
            table[kept] = before[kept]

    return step


def _custom_diffusion(base: Base, inputs: TrainInputs) -> Callable[[], None]:
    """As `examples/custom_diffusion`: AdamW over K and V of cross-attention, and the token's embedding."""
    pipe: Any = base.pipe
    unet, text = _copied(base.denoiser), _copied(pipe.text_encoder)
    table = text.get_input_embeddings().weight.requires_grad_()
    learned = [
        parameter.requires_grad_()
        for path, parameter in unet.named_parameters()
        if ".attn2.to_k." in path or ".attn2.to_v." in path
    ]
    optimiser = torch.optim.AdamW([table, *learned], lr=1e-5)
    ids, loss = _prompts(base, inputs), _batch(base, inputs, unet)
    others = torch.ones(len(table), dtype=torch.bool)
    others[int(ids[0, 1])] = False

    def step() -> None:
        loss(text(ids)[0]).backward()
        assert table.grad is not None
        table.grad[others] = 0
        torch.nn.utils.clip_grad_norm_([table, *learned], 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return step


def _copied(model: Any) -> Any:
    """A copy to change, frozen."""
    copied: nn.Module = copy.deepcopy(model)
    return copied.requires_grad_(False)
