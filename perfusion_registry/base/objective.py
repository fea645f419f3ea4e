"""Objectives: how a base's denoiser was trained, and so how a concept is trained in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from perfusion_registry.base.trainable import CHAIN_PREDICTIONS
from perfusion_registry.errors import PerfError


class Objective(Protocol):
    """The noise schedule, and what the denoiser answers. Times are in the denoiser's own units."""

    def draw_times(self, count: int, generator: torch.Generator) -> Tensor:
        """Times (count,) for one step of training, on the CPU."""
        ...

    def time(self, level: float) -> float:
        """The time at a share of the schedule: 0 is without noise, 1 is noise alone."""
        ...

    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Noisy latents (B, c, h, w). latents, noise: (B, c, h, w). times: (B,)."""
        ...

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """What the denoiser should answer (B, c, h, w); shapes as in `add_noise`."""
        ...


@dataclass(frozen=True, eq=False)
class Diffusion:
    """A chain of noise levels, as DDPM has it.

    alphas: (T,) fp32, the schedule's cumulative alphas. prediction: whether the denoiser answers the noise
    (`epsilon`), the velocity (`v_prediction`) or the latents (`sample`). Times are whole numbers below T.
    """

    alphas: Tensor
    prediction: str

    @classmethod
    def of(cls, scheduler: Any) -> Diffusion:
        """That of a diffusers scheduler. Raises PerfError for one that cannot be trained on."""
        prediction, name = scheduler.config.get("prediction_type", "epsilon"), type(scheduler).__name__
        if prediction not in CHAIN_PREDICTIONS:
            raise PerfError(f"The base's scheduler predicts {prediction!r}, which cannot be trained on")
        alphas = getattr(scheduler, "alphas_cumprod", None)
        if alphas is None:
            raise PerfError(f"The base's scheduler, {name}, has no chain of noise levels to train on")
        return cls(alphas, prediction)

    def draw_times(self, count: int, generator: torch.Generator) -> Tensor:
        """Each step of the chain is as likely."""
        return torch.randint(len(self.alphas), (count,), generator=generator)

    def time(self, level: float) -> int:
        """A step of the chain."""
        return int(level * len(self.alphas))

    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """`sqrt(a_t) z + sqrt(1 - a_t) n`."""
        signal, sigma = self._levels(times)
        return signal * latents + sigma * noise

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """The noise, the velocity `sqrt(a_t) n - sqrt(1 - a_t) z`, or the latents."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "sample":
            return latents
        signal, sigma = self._levels(times)
        return signal * noise - sigma * latents

    def _levels(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(a_t) and sqrt(1 - a_t), each (B, 1, 1, 1) fp32."""
        alphas = self.alphas.to(times.device, torch.float32)[times][:, None, None, None]
        return alphas.sqrt(), (1 - alphas).sqrt()


@dataclass(frozen=True, eq=False)
class FlowMatching:
    """A straight path from latents to noise, as rectified flow has it; the denoiser answers its velocity.

    scale: what the denoiser takes for the end of the path: times are between 0 and it.
    """

    scale: float = 1000.0

    def draw_times(self, count: int, generator: torch.Generator) -> Tensor:
        """Evenly along the path."""
        return torch.rand(count, generator=generator) * self.scale

    def time(self, level: float) -> float:
        """That share of the path."""
        return level * self.scale

    def add_noise(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """`(1 - s) z + s n`, where s is the share of the path."""
        share = (times / self.scale)[:, None, None, None]
        return (1 - share) * latents + share * noise

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """`n - z`."""
        return noise - latents
