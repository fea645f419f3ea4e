"""How far pictures are from what a base can draw: what its denoiser makes of them, and its autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_registry.methods.prompts import TARGET_PROMPT, pieces

if TYPE_CHECKING:
    from perfusion_registry.base import Base
    from perfusion_registry.base.bounds import PictureBounds

_SEED = 7


@dataclass(frozen=True, eq=False)
class Drawability:
    """Of N pictures. loss: (N,), the mean square error of the denoiser's answer, in its units. psnr: (N,), of
    what the autoencoder gives back, in dB."""

    loss: Tensor
    psnr: Tensor

    def within(self, bounds: PictureBounds) -> bool:
        """Whether the pictures, on the whole, are such as the base can draw."""
        return float(self.loss.mean()) <= bounds.loss and float(self.psnr.mean()) >= bounds.psnr


@torch.no_grad()
def drawability(base: Base, images: Tensor, word: str, levels: Sequence[float]) -> Drawability:
    """Measure images (N, 3, H, W) in 0..1 of a kind of thing.

    levels: the shares of the noise schedule at which the denoiser is asked about them, under "a photo of a
    <word>", with the same noise for all. The same images give the same numbers on one kind of processor.
    """
    latents = base.latents(images).mean
    N = len(latents)
    prompt = base.encode([base.tokenise(pieces(TARGET_PROMPT, word, spelled=True))])
    noise = torch.randn(latents.shape[1:], generator=torch.Generator().manual_seed(_SEED)).to(latents)
    losses = []
    with base.exclusive():
        for level in levels:
            times = torch.full((N,), base.objective.time(level), device=latents.device)
            noisy = base.objective.add_noise(latents, noise.expand_as(latents), times)
            answer = base.denoise(noisy, times, prompt.rows([0] * N))
            wanted = base.objective.target(latents, noise.expand_as(latents), times)
            losses.append(((answer - wanted) ** 2).mean((1, 2, 3)))
    error = ((base.reconstructed(images) - images.cpu()) ** 2).mean((1, 2, 3))
    return Drawability(torch.stack(losses).mean(0).cpu(), -10 * error.clamp_min(1e-10).log10())
