"""Sampling: small, quick pictures of packed encodings, to look at a concept while it is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_registry.base import Conditioning

if TYPE_CHECKING:
    from perfusion_registry.base import Base

SOLVER = "DPMSolverMultistepScheduler"
"""Ten steps of it are worth fifty of DDIM; used where the base's own scheduler can be read as one."""


def draw(
    base: Base, wanted: Conditioning, unwanted: Conditioning, noise: Tensor, *, steps: int, guidance: float
) -> Tensor:
    """Denoise and decode, with a composition attached to the base.

    wanted, unwanted: B packed prompts each, the two branches of classifier-free guidance.
    noise: (B, c, h, w) standard normal. Returns (B, 3, H, W) fp32 in 0..1.
    """
    solver = base.scheduler(SOLVER if SOLVER in base.schedulers else None)
    solver.set_timesteps(steps, device=base.device)
    both = Conditioning.joined([unwanted, wanted])
    both = both.with_states(both.states.to(base.dtype))
    z = noise.to(base.device) * getattr(solver, "init_noise_sigma", 1.0)
    with torch.inference_mode():
        for t in solver.timesteps:
            x = torch.cat([z, z])
            if hasattr(solver, "scale_model_input"):  # flow matching has none
                x = solver.scale_model_input(x, t)
            plain, called = base.denoise(x, t, both).chunk(2)
            z = solver.step(plain + guidance * (called - plain), t, z).prev_sample
    return base.pictures(z)
