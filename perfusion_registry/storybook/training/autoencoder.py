"""Training the autoencoder: pictures of 128 px to latents of 16 x 16, which decide how much of an
individual survives."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

from perfusion_registry.storybook.training.checkpoint import load_checkpoint, save_checkpoint
from perfusion_registry.storybook.training.drawings import SIZE, Shard
from perfusion_registry.storybook.training.norm import fuse_norms, unfuse_norms
from perfusion_registry.storybook.training.optimizer import MasterOptimizer
from perfusion_registry.storybook.training.precision import autocast
from perfusion_registry.storybook.training.schedule import Clock, cosine

CONFIG = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (16, 32, 64, 128),
    "layers_per_block": 1,
    "latent_channels": 8,
    "norm_num_groups": 8,
    "sample_size": SIZE,
    "force_upcast": False,
    "mid_block_add_attention": False,
}


@dataclass(frozen=True)
class AutoencoderPlan:
    """How long and how to train.

    seconds: the budget of this machine; the schedule is a function of its use. decoder_only: leave the
    encoder, and so every latent, as it is: a denoiser that was trained on them stays valid.
    """

    seconds: float
    batch: int = 12
    learning_rate: float = 5e-3
    crops_until: float = 0.6
    equivariance: float = 0.25
    kl: float = 3e-4
    decoder_only: bool = False
    seed: int = 0


def train_autoencoder(
    shards: list[Shard], plan: AutoencoderPlan, folder: Path, *, device: str = "cpu", log: bool = True
) -> AutoencoderKL:
    """Train, or continue from the checkpoint in `folder`; returns the model in fp32 with its scaling
    factor set.

    The first part of the budget sees 64 px crops, the rest whole pages (group norm's statistics are those
    of the picture). With probability `equivariance` the latent is halved in size and must decode to the
    halved picture: latents that behave like small pictures are easier for the denoiser to learn. Half of
    the time the latent is mirrored and must decode to the mirror image, so that the denoiser may train on
    mirrored latents.
    """
    torch.manual_seed(plan.seed)
    if plan.decoder_only:
        vae = AutoencoderKL.from_pretrained(folder / "vae")
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    else:
        vae = AutoencoderKL(**CONFIG)
    vae.to(device, memory_format=torch.channels_last)
    optimizer = MasterOptimizer(vae, matrix_rate=plan.learning_rate, rest_rate=2e-3, weight_decay=1e-3)
    state: dict[str, Any] = {"step": 0, "seconds": 0.0, "history": []}
    checkpoint = folder / ("decoder.pt" if plan.decoder_only else "autoencoder.pt")
    load_checkpoint(checkpoint, optimizer, state)
    fuse_norms(vae)
    clock = Clock(plan.seconds, state["seconds"])
    rng = np.random.default_rng(plan.seed + state["step"])
    smooth: float | None = None
    saved = time.monotonic()
    while (progress := clock.progress(state["step"])) < 1:
        crops = progress < plan.crops_until
        shard = shards[int(rng.integers(len(shards)))]
        rows = np.sort(rng.choice(len(shard.images), plan.batch * (2 if crops else 1), replace=False))
        x = _pictures(shard, rows, rng, crops).to(device, memory_format=torch.channels_last)
        halve, mirror = bool(rng.random() < plan.equivariance), bool(rng.random() < 0.5)
        loss, error = _loss(vae, x, plan, halve=halve, mirror=mirror)
        loss.backward()
        optimizer.step(cosine(progress, state["step"], warmup=50))
        state["step"] += 1
        smooth = error if smooth is None else 0.98 * smooth + 0.02 * error
        if state["step"] % 50 == 0:
            state["seconds"] = clock.used()
            state["history"].append((state["step"], round(clock.used()), round(smooth, 4)))
            if log:
                print(f"autoencoder step {state['step']} {clock.used():.0f} s  L1 {smooth:.4f}", flush=True)
        if time.monotonic() - saved > 120:
            saved = time.monotonic()
            save_checkpoint(checkpoint, optimizer, state)
    save_checkpoint(checkpoint, optimizer, state)
    unfuse_norms(vae)
    vae.eval().requires_grad_(False)
    if plan.decoder_only:
        return vae
    sample = _pictures(shards[0], np.arange(256), rng, False).to(device, memory_format=torch.channels_last)
    vae.register_to_config(scaling_factor=float(1 / vae.encode(sample).latent_dist.mean.float().std()))
    return vae


def _pictures(shard: Shard, rows: np.ndarray, rng: np.random.Generator, crops: bool) -> Tensor:
    """Pictures (or 64 px crops on the latent's grid) in -1..1, each flipped with probability one half."""
    batch = shard.images[rows]
    if crops:
        corners = rng.integers(0, (SIZE - 64) // 8 + 1, (len(rows), 2)) * 8
        batch = np.stack([p[:, y : y + 64, x : x + 64] for p, (y, x) in zip(batch, corners, strict=True)])
    flips = rng.random(len(batch)) < 0.5
    batch[flips] = batch[flips][..., ::-1]
    return torch.from_numpy(np.ascontiguousarray(batch)).float().div_(127.5).sub_(1)


def _loss(
    vae: AutoencoderKL, x: Tensor, plan: AutoencoderPlan, *, halve: bool, mirror: bool
) -> tuple[Tensor, float]:
    with autocast(x.device):
        posterior = vae.encode(x).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        # A decoder that is trained alone also learns to forgive what a denoiser leaves of the noise.
        noise = 0.04 * mean.std() if plan.decoder_only else torch.exp(0.5 * logvar)
        z = mean + noise * torch.randn_like(mean)
        if halve:
            z, x = functional.avg_pool2d(z, 2), functional.avg_pool2d(x, 2)
        if mirror:
            z, x = z.flip(-1), x.flip(-1)
        y = vae.decode(z).sample.float()
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
    error = y - x
    edges = (error[..., 1:] - error[..., :-1]).abs().mean() + (
        error[..., 1:, :] - error[..., :-1, :]
    ).abs().mean()
    colour = functional.avg_pool2d(error, 4).abs().mean()
    loss = error.abs().mean() + (error**2).mean() + 0.3 * edges + colour + plan.kl * kl
    return loss, float(error.detach().abs().mean())


@torch.no_grad()
def psnr(vae: AutoencoderKL, images: Tensor) -> float:
    """Mean peak signal-to-noise ratio in dB of reconstructions from posterior means. images: (B, 3, h, w)
    in 0..1."""
    scores = []
    for part in images.split(32):
        y = vae.decode(vae.encode(part * 2 - 1).latent_dist.mean).sample.float() / 2 + 0.5
        scores.append(-10 * ((y.clamp(0, 1) - part) ** 2).mean((1, 2, 3)).log10())
    return float(torch.cat(scores).mean())
