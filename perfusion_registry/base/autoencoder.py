"""Pictures to and from latents, by diffusers' autoencoder of images (`AutoencoderKL`)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Posterior:
    """What an encoder says of N pictures, in the denoiser's units. mean, std: (N, c, h, w) fp32."""

    mean: Tensor
    std: Tensor


def encoded(
    vae: Any, images: Tensor, device: torch.device, autocast: AbstractContextManager[Any]
) -> Posterior:
    """The posteriors of images (N, 3, H, W) in 0..1."""
    scale, shift = scale_and_shift(vae)
    means, stds = [], []
    with torch.inference_mode(), autocast:
        for image in images:  # one by one: a batch of 512 px takes gigabytes
            posterior = vae.encode(image[None].to(device, vae.dtype) * 2 - 1).latent_dist
            means.append((posterior.mean.float() - shift) * scale)
            stds.append(posterior.std.float() * scale)
    return Posterior(torch.cat(means).clone(), torch.cat(stds).clone())


def decoded(vae: Any, latents: Tensor, autocast: AbstractContextManager[Any]) -> Tensor:
    """Pictures (B, 3, H, W) fp32 in 0..1 of latents (B, c, h, w) in the denoiser's units."""
    scale, shift = scale_and_shift(vae)
    with torch.inference_mode(), autocast:
        images: Tensor = vae.decode((latents / scale + shift).to(vae.dtype)).sample
    return (images.float() / 2 + 0.5).clamp(0, 1)


@torch.inference_mode()
def reconstructed(vae: Any, images: Tensor) -> Tensor:
    """Images (B, 3, H, W) in 0..1 as the autoencoder gives them back, on the CPU: nothing that is drawn
    through it can be sharper."""
    latents = vae.encode((images * 2 - 1).to(vae.device, vae.dtype)).latent_dist.mode()
    pixels: Tensor = vae.decode(latents).sample
    return (pixels.float().cpu() / 2 + 0.5).clamp(0, 1)


def scale_and_shift(vae: Any) -> tuple[float, float]:
    """Of the denoiser's units: `(z - shift) scale`."""
    return float(vae.config.scaling_factor), float(getattr(vae.config, "shift_factor", None) or 0.0)
