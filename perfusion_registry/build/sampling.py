"""Sampling: small, quick renders of packed encodings, to look at a concept while it is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from perfusion_registry.base import Base

SOLVER = "DPMSolverMultistepScheduler"
"""Ten steps of it are worth fifty of DDIM; used where the base's own scheduler can be read as one."""


def draw(
    base: Base, wanted: Tensor, unwanted: Tensor, noise: Tensor, *, steps: int, guidance: float
) -> Tensor:
    """Denoise and decode; the UNet has the bank attached.

    wanted, unwanted: (B, n, D) packed encodings of the two branches of classifier-free guidance.
    noise: (B, c, h, w) standard normal. Returns (B, 3, H, W) fp32 in 0..1.
    """
    unet, vae = base.pipe.unet, base.pipe.vae
    solver = _solver(base.pipe.scheduler)
    solver.set_timesteps(steps, device=base.device)
    both = torch.cat([unwanted, wanted]).to(unet.dtype)
    z = noise.to(base.device) * solver.init_noise_sigma
    with torch.inference_mode():
        for t in solver.timesteps:
            x = solver.scale_model_input(torch.cat([z, z]), t).to(unet.dtype)
            with base.autocast():
                answer = unet(x, t, both).sample
            plain, called = answer.float().chunk(2)
            z = solver.step(plain + guidance * (called - plain), t, z).prev_sample
        shift = float(getattr(vae.config, "shift_factor", None) or 0.0)
        with base.autocast():
            images: Tensor = vae.decode((z / vae.config.scaling_factor + shift).to(vae.dtype)).sample
    return (images.float() / 2 + 0.5).clamp(0, 1)


def _solver(scheduler: Any) -> Any:
    """A fresh solver with the scheduler's own noise schedule and prediction type."""
    kinds = {kind.__name__: kind for kind in scheduler.compatibles}
    kind = kinds.get(SOLVER, type(scheduler))
    return kind.from_config(scheduler.config)
