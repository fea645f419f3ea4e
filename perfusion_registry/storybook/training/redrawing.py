"""Drawn pages as the base would give them back: through its autoencoder, with latents that are a little off.

The recogniser learns from such pages too; else it would take what the autoencoder does to small things for a
fault of the picture.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from perfusion_registry.storybook.training.drawings import Shard
from perfusion_registry.storybook.training.precision import autocast

OFF = 0.15
"""The most noise of a page's latent, in standard deviations of latents; each page has less by chance."""


@torch.no_grad()
def redrawn(
    shard: Shard, number: int, vae: AutoencoderKL, folder: Path, *, device: str = "cpu"
) -> NDArray[np.uint8]:
    """The images (n, 3, h, w) of shard `number`, redrawn; kept in `folder`, whole or not at all."""
    target = folder / f"{number:04d}.redrawn.npy"
    if not target.exists():
        generator = torch.Generator().manual_seed(number)
        parts = []
        for start in range(0, len(shard.images), 50):
            x = torch.from_numpy(shard.images[start : start + 50].copy()).to(device).float() / 127.5 - 1
            with autocast(device):
                mean = vae.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist.mean
                level = OFF * torch.rand(len(x), 1, 1, 1, generator=generator) / vae.config.scaling_factor
                off = level * torch.randn(mean.shape, generator=generator)
                pixels = vae.decode(mean + off.to(mean)).sample.float()
            parts.append(((pixels / 2 + 0.5).clamp(0, 1) * 255).round().byte().cpu().numpy())
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{number:04d}.redrawn.partial.npy"
        np.save(partial, np.concatenate(parts))
        os.replace(partial, target)
    images: NDArray[np.uint8] = np.load(target, mmap_mode="r")
    return images
