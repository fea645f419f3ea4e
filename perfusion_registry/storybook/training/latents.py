"""Latents of the drawn pages, held in memory for the denoiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPTokenizer

from perfusion_registry.storybook.captions import MAX_TOKENS
from perfusion_registry.storybook.training.drawings import Shard
from perfusion_registry.storybook.training.precision import autocast
from perfusion_registry.storybook.world import CATEGORIES


@dataclass(frozen=True)
class Latents:
    """Latents (N, c, 16, 16) fp16 scaled to unit deviation; ids (N, n) int16; owners (N, 2, 16, 16) uint8,
    the share of each cell that a subject covers; categories (N, 2) int8, -1 for none."""

    z: Tensor
    ids: Tensor
    owners: Tensor
    categories: Tensor

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Random latents (B, c, 16, 16) fp32, ids (B, n), cover of subjects (B, 1, 16, 16) and category maps.

        The maps (B, 9, 16, 16) are distributions over scenery and the eight categories.
        """
        device = self.z.device
        rows = torch.randint(0, len(self.z), (size,), generator=generator, device=device)
        z, owners = self.z[rows].float(), self.owners[rows].float() / 255
        maps = torch.zeros(size, len(CATEGORIES) + 1, *owners.shape[-2:], device=device)
        kinds = self.categories[rows].long()
        for k in range(2):
            index = (kinds[:, k] + 1)[:, None, None, None].expand(-1, 1, *owners.shape[-2:])
            maps.scatter_add_(1, index, owners[:, k : k + 1])
        maps[:, :1] = (1 - owners.sum(1, keepdim=True)).clamp_min(0)
        return z, self.ids[rows].long(), owners.sum(1, keepdim=True).clamp_max(1), maps


@torch.no_grad()
def encode_shards(
    shards: list[Shard],
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    path: Path,
    *,
    device: str = "cpu",
    style: Callable[[Tensor], Tensor] | None = None,
) -> Latents:
    """Encode every page once, as another hand would draw it where there is a style; kept in `path`."""
    if path.exists():
        return Latents(**torch.load(path, weights_only=True))
    z, ids = [], []
    for shard in shards:
        encoded = tokenizer(
            shard.captions, padding="max_length", max_length=MAX_TOKENS, truncation=True
        ).input_ids
        ids.append(torch.tensor(encoded, dtype=torch.int16))
        for start in range(0, len(shard.images), 50):
            x = torch.from_numpy(shard.images[start : start + 50].copy()).to(device).float() / 255
            x = (x if style is None else style(x)) * 2 - 1
            with autocast(device):
                mean = vae.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist.mean
            z.append((mean.float() * vae.config.scaling_factor).contiguous().half().cpu())
    latents = Latents(
        torch.cat(z),
        torch.cat(ids),
        torch.cat([torch.from_numpy(s.owners) for s in shards]),
        torch.cat([torch.from_numpy(s.categories) for s in shards]),
    )
    torch.save(latents.__dict__, path)
    return latents
