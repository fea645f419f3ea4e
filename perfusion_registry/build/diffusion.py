"""The diffusion objective: noising, what the UNet should answer, and the masked loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from perfusion_registry.errors import PerfError


def add_noise(schedule: Any, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """`sqrt(a_t) z + sqrt(1 - a_t) n`. schedule: a diffusers scheduler. latents, noise: (B, c, h, w)."""
    signal, sigma = _levels(schedule, timesteps)
    return signal * latents + sigma * noise


def target(schedule: Any, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What the UNet should answer, by the scheduler's prediction type: the noise, the velocity or the
    latents.

    latents, noise: (B, c, h, w). timesteps: (B,). Returns (B, c, h, w).
    Raises PerfError for a prediction type that the objective does not know.
    """
    kind = schedule.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        signal, sigma = _levels(schedule, timesteps)
        return signal * noise - sigma * latents
    if kind == "sample":
        return latents
    raise PerfError(f"The base's scheduler predicts {kind!r}, which cannot be trained on")


def masked_loss(answer: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """Mean of the squared error weighted by the mask. answer, wanted: (B, c, h, w). weight: (B, 1, h, w)."""
    return ((answer - wanted).square() * weight).mean()


def _levels(schedule: Any, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(a_t) and sqrt(1 - a_t), each (B, 1, 1, 1) fp32, of the schedule's cumulative alphas."""
    alphas: Tensor = schedule.alphas_cumprod.to(timesteps.device, torch.float32)[timesteps]
    alphas = alphas[:, None, None, None]
    return alphas.sqrt(), (1 - alphas).sqrt()
