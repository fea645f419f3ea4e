"""Latents: images and their mirror images through the autoencoder once, resampled at every step.

Encoding does not commute with flipping, so a mirror image is encoded, not a latent mirrored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from perfusion_registry.base import Base


@dataclass(frozen=True, eq=False)
class Latents:
    """Posteriors of N pictures in the denoiser's units, with their loss weights.

    mean, std: (N, c, h, w) fp32. weight: (N, 1, h, w) fp32, the soft mask, 1 at its maximum in every picture.
    sizes: (N, 6) fp32, how each was cropped (`framing.sizes_of`).
    """

    mean: Tensor
    std: Tensor
    weight: Tensor
    sizes: Tensor

    def at(self, index: Tensor, device: torch.device) -> Latents:
        """The pictures at `index` (B,), on a device."""
        index = index.to(self.mean.device)
        return Latents(*(part[index].to(device) for part in self._parts))

    def to(self, device: torch.device) -> Latents:
        """All of them, on a device."""
        return Latents(*(part.to(device) for part in self._parts))

    @property
    def _parts(self) -> tuple[Tensor, ...]:
        return tuple(getattr(self, name) for name in PARTS)

    def sample(self, noise: Tensor) -> Tensor:
        """Draw latents of all of them. noise: (N, c, h, w). Returns (N, c, h, w)."""
        return self.mean + self.std * noise


PARTS = tuple(field.name for field in fields(Latents))
"""What there is of each picture, by name."""


def joined(parts: Sequence[Latents]) -> Latents:
    """The pictures of all of them, in their order."""
    return Latents(*(torch.cat([getattr(part, name) for part in parts]) for name in PARTS))


def encode_latents(
    base: Base, images: Tensor, masks: Tensor, *, flip: bool, sizes: Tensor | None = None
) -> Latents:
    """Posteriors of the images and, with `flip`, of their mirror images after them.

    images: (N, 3, H, W) in 0..1. masks: (N, 1, H', W'), zero or more, not all zero in any picture. sizes:
    (N, 6), how each was cropped, from its middle; None where they are whole. Returns N or 2 N pictures. The
    mask is averaged over each latent pixel, then divided by its maximum (Section 4.4).
    """
    if sizes is None:
        H, W = images.shape[-2:]
        sizes = torch.tensor([[H, W, 0, 0, H, W]]).expand(len(images), -1)
    if flip:
        images, masks, sizes = (
            torch.cat([images, images.flip(-1)]),
            torch.cat([masks, masks.flip(-1)]),
            sizes.repeat(2, 1),
        )
    posterior = base.latents(images)
    mean, std = posterior.mean, posterior.std
    weight = latent_weight(masks.to(base.device), (mean.shape[-2], mean.shape[-1]))
    return Latents(mean, std, weight, sizes.to(base.device, torch.float32))


def latent_weight(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (N, 1, H, W) averaged to `size` (h, w) and divided by their maximum. Returns (N, 1, h, w)
    fp32."""
    small = functional.interpolate(masks.float(), size, mode="area")
    return small / small.amax((1, 2, 3), keepdim=True)
