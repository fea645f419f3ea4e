"""Training the autoencoder's decoder: from latents of 16 x 16 to pages of 256 px. The encoder is that of
`linear.py` and never trained, so that a latent stays what it is while decoders get better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from perfusion_registry.storybook2.training.linear import LinearEncoder, write
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
    pages are counted so. noise: on the latents, in their deviation, so that the decoder forgives what a
    denoiser leaves. edges: the weight of the error of differences between neighbours.
    """

    widths: tuple[int, ...] = (8, 16, 48, 128, 192)
    channels: int = 32
    groups: int = 2
    batch: int = 4
    crop: int = 128
    crops_until: int = 10_000
    matrix_rate: float = 5e-3
    rest_rate: float = 2e-3
    noise: float = 0.04
    edges: float = 0.3
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


Examples = Callable[[np.random.Generator, int], tuple[Tensor, Tensor]]
"""Pictures (B, 3, h, w) in -1..1 and the latents (B, c, h/16, w/16) to decode them from, by chance and the
pages seen before. They may ask torch's own chance too, which is seeded for each step."""


class AutoencoderLearner:
    """The decoder in training. examples: what it learns from. vae: one whose decoder to train on; by default
    it begins anew."""

    def __init__(
        self,
        examples: Examples,
        encoder: LinearEncoder,
        plan: AutoencoderPlan,
        *,
        vae: AutoencoderKL | None = None,
        device: str = "cpu",
    ) -> None:
        self.examples, self.plan, self.device = examples, plan, device
        torch.manual_seed(seed_of("autoencoder", plan.seed))
        self.vae = new_autoencoder(encoder, plan) if vae is None else vae
        self.vae.requires_grad_(True)
        self.vae.encoder.requires_grad_(False)
        self.vae.quant_conv.requires_grad_(False)
        self.vae.to(device, memory_format=torch.channels_last)
        self.scale = encoder.scale
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
        """One step; measures the mean absolute and the mean square error of pixels in -1..1."""
        rng = numbers("autoencoder", self.plan.seed, number)
        torch.manual_seed(int(rng.integers(2**62)))
        x, z = self.examples(rng, pages)
        x = x.to(self.device, memory_format=torch.channels_last)
        loss, measured = decoder_loss(self.vae, x, z.to(self.device), edges=self.plan.edges)
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

    def finished(self) -> AutoencoderKL:
        """The stock model for reading, in fp32 but rounded to fp16, so that what ships encodes alike. Its
        scaling factor gives latents a deviation of one."""
        unfuse_norms(self.vae)
        self.vae.register_to_config(scaling_factor=self.scale)
        return self.vae.eval().requires_grad_(False).half().float()


def new_autoencoder(encoder: LinearEncoder, plan: AutoencoderPlan) -> AutoencoderKL:
    """One with this encoder and an untrained decoder."""
    vae = AutoencoderKL(**plan.config())
    write(encoder, vae)
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
    rows = rng.integers(0, len(shard), count)
    tops = rng.integers(0, (height - size) // GRID + 1, count) * GRID
    lefts = rng.integers(0, (width - size) // GRID + 1, count) * GRID
    batch = np.stack(
        [shard[r, y : y + size, x : x + size] for r, y, x in zip(rows, tops, lefts, strict=True)]
    )
    return torch.from_numpy(batch).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def drawn_pages(
    images: Sequence[NDArray[np.uint8]], encoder: LinearEncoder, plan: AutoencoderPlan, *, device: str = "cpu"
) -> Examples:
    """Pages and their crops, mirrored as often as not, with latents that are off by a little noise. images:
    arrays (n, h, w, 3) of uint8."""
    encoder = encoder.to(device)

    @torch.no_grad()
    def examples(rng: np.random.Generator, pages: int) -> tuple[Tensor, Tensor]:
        x = pictures(images, plan, rng, crops=pages < plan.crops_until)
        if rng.random() < 0.5:
            x = x.flip(-1)
        x = x.to(device)
        z = encoder.encode(x)
        return x, z + plan.noise * z.std() * torch.randn_like(z)

    return examples


def decoder_loss(
    vae: AutoencoderKL, x: Tensor, z: Tensor, *, edges: float
) -> tuple[Tensor, dict[str, float]]:
    """The loss of what latents z (B, c, h/16, w/16) are decoded to, where pictures x (B, 3, h, w) in -1..1
    are wanted, and the mean absolute and the mean square error. edges: the weight of the error of differences
    between neighbours."""
    with autocast(x.device):
        y = vae.decode(z).sample.float()
    error = y - x
    square = (error**2).mean()
    outline = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    colour = functional.avg_pool2d(error, 4).abs().mean()
    loss = error.abs().mean() + square + edges * outline + colour
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
