"""Training the autoencoder: pages of 256 px to latents of 16 x 16, which decide how much of an individual
survives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from perfusion_registry.storybook2.training.norm import fuse_norms, unfuse_norms
from perfusion_registry.storybook2.training.optimizer import Optimizer
from perfusion_registry.storybook2.training.precision import autocast
from perfusion_registry.storybook2.training.seeds import numbers, seed_of

GRID = 16
"""Pixels of a page, along a side, that one cell of a latent stands for."""


@dataclass(frozen=True)
class AutoencoderPlan:
    """What to train and how.

    widths: channels at 256, 128, 64, 32 and 16 px. channels: of the latents. groups: of the group norms. With
    as many as the first level has channels, each channel is normalised by itself, the picture loses its
    brightness, and the loss falls half as fast (docs/log.md). crop: side of the crops in pixels that most of
    the training sees; crops_until: pages after which it sees whole ones (group norm's statistics are those of
    the picture). A step is `batch` pages; of crops it takes as many as make up the same number of pixels, and
    pages are counted so. decoder_only: leave the encoder, and so every latent, as it is: a denoiser that was
    trained on them stays valid.
    """

    widths: tuple[int, ...] = (8, 16, 48, 128, 192)
    channels: int = 16
    groups: int = 2
    batch: int = 4
    crop: int = 128
    crops_until: int = 10_000
    matrix_rate: float = 5e-3
    rest_rate: float = 2e-3
    shrunk: float = 0.0
    halved: float = 0.2
    kl: float = 3e-4
    edges: float = 0.3
    decoder_only: bool = False
    fused: bool = True
    seed: int = 0

    def config(self) -> dict[str, Any]:
        """Of the `AutoencoderKL`."""
        levels = len(self.widths)
        return {
            "in_channels": 3,
            "out_channels": 3,
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
            "block_out_channels": self.widths,
            "layers_per_block": 1,
            "latent_channels": self.channels,
            "norm_num_groups": self.groups,
            "sample_size": 256,
            "force_upcast": False,
            "mid_block_add_attention": False,
        }


class AutoencoderLearner:
    """The autoencoder in training on drawn pages. images: arrays (n, h, w, 3) of uint8."""

    def __init__(
        self,
        images: Sequence[NDArray[np.uint8]],
        plan: AutoencoderPlan,
        *,
        vae: AutoencoderKL | None = None,
        device: str = "cpu",
    ) -> None:
        self.images, self.plan, self.device = images, plan, device
        torch.manual_seed(seed_of("autoencoder", plan.seed))
        self.vae = new_autoencoder(plan) if vae is None else vae
        self.vae.requires_grad_(True)
        if plan.decoder_only:
            self.vae.encoder.requires_grad_(False)
            self.vae.quant_conv.requires_grad_(False)
        self.vae.to(device, memory_format=torch.channels_last)
        self.optimizer = Optimizer(
            self.vae, matrix_rate=plan.matrix_rate, rest_rate=plan.rest_rate, weight_decay=1e-3
        )
        if plan.fused:
            fuse_norms(self.vae)

    @property
    def batch(self) -> int:
        """Pages a step."""
        return self.plan.batch

    def step(self, number: int, pages: int, rate: float) -> dict[str, float]:
        """One step; measures the mean absolute error of pixels in -1..1."""
        rng = numbers("autoencoder", self.plan.seed, number)
        torch.manual_seed(int(rng.integers(2**62)))
        x = pictures(self.images, self.plan, rng, crops=pages < self.plan.crops_until)
        x = x.to(self.device, memory_format=torch.channels_last)
        halve, mirror = bool(rng.random() < self.plan.halved), bool(rng.random() < 0.5)
        loss, measured = autoencoder_loss(self.vae, x, self.plan, halve=halve, mirror=mirror)
        loss.backward()
        self.optimizer.step(rate, clip=1.0)
        return measured

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser, and the layout that they have."""
        weights = {key: value.contiguous() for key, value in self.vae.state_dict().items()}
        plan = self.plan
        config = {"widths": list(plan.widths), "channels": plan.channels, "groups": plan.groups}
        return {"weights": weights, "optimizer": self.optimizer.state_dict(), "config": config}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.vae.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])

    def finished(self, sample: Tensor) -> AutoencoderKL:
        """The stock model for reading, in fp32 but rounded to fp16, so that what ships encodes alike. sample:
        pages (B, 3, h, w) in -1..1, whose latents' deviation becomes one by the scaling factor; a decoder
        trained alone keeps the one it had."""
        unfuse_norms(self.vae)
        vae = self.vae.eval().requires_grad_(False)
        if not self.plan.decoder_only:
            with torch.no_grad():
                deviation = vae.encode(sample.to(self.device)).latent_dist.mean.float().std()
            vae.register_to_config(scaling_factor=float(1 / deviation))
        return vae.half().float()


def new_autoencoder(plan: AutoencoderPlan) -> AutoencoderKL:
    """An untrained autoencoder whose latents begin with little noise of their own: a deviation of e^-3.

    With the usual beginning, of one, the first thousand pages go into lifting the signal above it.
    """
    vae = AutoencoderKL(**plan.config())
    with torch.no_grad():
        vae.quant_conv.bias[plan.channels :] = -6.0
        vae.quant_conv.weight[plan.channels :] *= 0.1
    return vae


def loaded(state: dict[str, Any], plan: AutoencoderPlan) -> AutoencoderKL:
    """The autoencoder of a learner's `state_dict`, in fp32."""
    config = state["config"]
    plan = replace(plan, **{**config, "widths": tuple(config["widths"])})
    vae = AutoencoderKL(**plan.config())
    vae.load_state_dict(state["weights"])
    return vae.eval().requires_grad_(False)


def pictures(
    images: Sequence[NDArray[np.uint8]], plan: AutoencoderPlan, rng: np.random.Generator, *, crops: bool
) -> Tensor:
    """A batch (B, 3, h, w) in -1..1 from one shard: whole pages, or crops on the latent's grid."""
    shard = images[int(rng.integers(len(images)))]
    height, width = shard.shape[1:3]
    size = min(plan.crop, height) if crops else height
    count = plan.batch * (height // size) ** 2
    shrink = 2 if crops and rng.random() < plan.shrunk else 1
    size = min(height, size * shrink)
    rows = rng.integers(0, len(shard), count)
    tops = rng.integers(0, (height - size) // GRID + 1, count) * GRID
    lefts = rng.integers(0, (width - size) // GRID + 1, count) * GRID
    batch = np.stack(
        [shard[r, y : y + size, x : x + size] for r, y, x in zip(rows, tops, lefts, strict=True)]
    )
    x = torch.from_numpy(batch).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    return functional.avg_pool2d(x, shrink) if shrink > 1 else x


def autoencoder_loss(
    vae: AutoencoderKL, x: Tensor, plan: AutoencoderPlan, *, halve: bool, mirror: bool
) -> tuple[Tensor, dict[str, float]]:
    """The loss of pictures (B, 3, h, w) in -1..1, and the mean absolute and the mean square error.

    halve: the latent is halved in size and must decode to the halved picture, mirror: mirrored, and to the
    mirror image: latents that behave like small pictures are easier for the denoiser to learn (EQ-VAE,
    2502.09509).
    """
    with autocast(x.device):
        posterior = vae.encode(x).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        # A decoder that is trained alone also learns to forgive what a denoiser leaves of the noise.
        noise = 0.04 * mean.detach().std() if plan.decoder_only else torch.exp(0.5 * logvar)
        z = mean + noise * torch.randn_like(mean)
        if halve:
            z, x = functional.avg_pool2d(z, 2), functional.avg_pool2d(x, 2)
        if mirror:
            z, x = z.flip(-1), x.flip(-1)
        y = vae.decode(z).sample.float()
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
    error = y - x
    square = (error**2).mean()
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    colour = functional.avg_pool2d(error, 4).abs().mean()
    loss = error.abs().mean() + square + plan.edges * edges + colour + plan.kl * kl
    return loss, {"L1": float(error.detach().abs().mean()), "square": float(square.detach())}


@torch.no_grad()
def psnr(vae: AutoencoderKL, pages: NDArray[np.uint8], *, batch: int = 8) -> float:
    """Mean peak signal-to-noise ratio in dB of reconstructions from posterior means. pages: (n, h, w, 3)."""
    device = next(vae.parameters()).device
    scores = []
    for start in range(0, len(pages), batch):
        x = torch.from_numpy(pages[start : start + batch]).permute(0, 3, 1, 2).to(device).float() / 127.5 - 1
        y = vae.decode(vae.encode(x).latent_dist.mean).sample.float().clamp(-1, 1)
        scores.append(-10 * (((y - x) / 2) ** 2).mean((1, 2, 3)).log10())
    return float(torch.cat(scores).mean())
