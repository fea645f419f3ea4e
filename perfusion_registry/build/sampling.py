"""Small, quick pictures of packed encodings, to look at a concept while it is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_registry.base import Conditioning
from perfusion_registry.base.sampling import guided, sample
from perfusion_registry.reporter import unheard

if TYPE_CHECKING:
    from perfusion_registry.base import Base

SOLVER = "DPMSolverMultistepScheduler"
"""Ten steps of it are worth fifty of DDIM; used where the base's own scheduler can be read as one."""


def draw(
    base: Base,
    wanted: Conditioning,
    unwanted: Conditioning,
    noise: Tensor,
    *,
    steps: int,
    guidance: float,
    advance: Callable[[int], None] = unheard,
) -> Tensor:
    """Denoise and decode, with a composition attached to the base.

    wanted, unwanted: B packed prompts each, the two branches of classifier-free guidance.
    noise: (B, c, h, w) standard normal. advance: told of each of the solver's times,
    which are `steps` or, where it asks twice a step, more. Returns (B, 3, H, W) fp32 in 0..1.
    """
    scheduler = base.scheduler(SOLVER if SOLVER in base.schedulers else None)
    scheduler.set_timesteps(steps, device=base.device)
    both = Conditioning.joined([unwanted, wanted])
    both = both.with_states(both.states.to(base.dtype)).to(base.device)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        answer = base.denoise(x, t, both)
        advance(1)
        return answer

    with torch.inference_mode():
        latents = sample(
            guided(denoise, guidance, base.description.guidance_rescale),
            noise.to(base.device),
            scheduler,
            None,
        )
    return base.pictures(latents)
