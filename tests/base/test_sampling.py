"""The loop of samplers is that of diffusers' pipelines, to the bit, with whichever scheduler."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from perfusion_registry.base import Base, Conditioning
from perfusion_registry.base.sampling import guided, sample

SCHEDULERS = (
    "PNDMScheduler",
    "DDIMScheduler",
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "UniPCMultistepScheduler",
)
"""Of one step and of several, with noise of their own and without, with and without scaling."""


def dice() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in (3, 4)]


@pytest.mark.parametrize(("name", "rescale"), [*((name, 0.0) for name in SCHEDULERS), ("DDIMScheduler", 0.7)])
def test_it_gives_what_the_pipeline_gives(tiny_base: Base, name: str, rescale: float) -> None:
    prompts = ["a teddy in the snow", "a red boat"]
    pipe = tiny_base.pipeline(scheduler=name)
    settings = {"num_inference_steps": 3, "guidance_scale": 3.0, "width": 64, "height": 64}
    settings |= {"guidance_rescale": rescale}
    expected = pipe(prompts, generator=dice(), output_type="latent", **settings).images

    texts = [[], [], *([prompt] for prompt in prompts)]
    both: Conditioning = tiny_base.encode([tiny_base.tokenise(text) for text in texts])
    scheduler = tiny_base.scheduler(name)
    scheduler.set_timesteps(3)
    generators = dice()
    noise = torch.cat([torch.randn(1, 4, 8, 8, generator=generator) for generator in generators])

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return tiny_base.denoise(x, t, both)

    with torch.inference_mode(), tiny_base.exclusive():
        latents = sample(guided(denoise, 3.0, rescale), noise, scheduler, generators)
    assert torch.equal(latents, expected)


def test_a_guidance_of_one_is_the_wanted_prompt_alone() -> None:
    answers = torch.randn(6, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        seen.append(x)
        return answers

    x = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(guided(denoise, 1.0)(x, torch.tensor(5)), answers[3:], atol=1e-6)
    assert torch.equal(guided(denoise, 0.0)(x, torch.tensor(5)), answers[:3])
    assert torch.equal(seen[0], torch.cat([x, x]))
