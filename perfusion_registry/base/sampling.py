"""Sampling: from noise to latents by a diffusers scheduler, and classifier-free guidance."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]
"""What a denoiser answers at x (B, c, h, w) and one time t: (B, c, h, w)."""


def sample(
    denoise: Denoise, x: Tensor, scheduler: Any, generator: torch.Generator | list[torch.Generator] | None
) -> Tensor:
    """Run a scheduler over its times, as diffusers' pipelines do, and to the same bits.

    denoise: called once for each of them, with x as the scheduler scales it. x: (B, c, h, w), standard normal
    noise; what is computed has its format and lies on its device. scheduler: fresh, after `set_timesteps` on
    that device; it is used up. generator: what schedulers that add noise draw it from, one or B of them; the
    others need none. Returns latents (B, c, h, w). Gradients are the caller's affair.
    """
    more = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    x = x * getattr(scheduler, "init_noise_sigma", 1.0)
    for t in scheduler.timesteps:
        # flow matching scales nothing
        scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(denoise(scaled, t), t, x, **more).prev_sample
    return x


def guided(denoise: Denoise, guidance: float, rescale: float = 0.0) -> Denoise:
    """Classifier-free guidance: away from the unwanted prompt, to the wanted one.

    denoise: of 2 B samples, the first half with the unwanted prompts. guidance: 1 is the wanted prompt
    alone. rescale: how far the answer's deviation is brought back to the wanted prompt's own (Lin et al.
    2023, Eq. 15 and 16). Returns a denoiser of B.
    """

    def answer(x: Tensor, t: Tensor) -> Tensor:
        unwanted, wanted = denoise(torch.cat([x, x]), t).chunk(2)
        led = unwanted + guidance * (wanted - unwanted)
        if not rescale:
            return led
        axes = list(range(1, led.ndim))
        as_wanted = led * (wanted.std(axes, keepdim=True) / led.std(axes, keepdim=True))
        return rescale * as_wanted + (1 - rescale) * led

    return answer
