"""Training the recogniser on drawn pages."""

from __future__ import annotations

from random import Random

import numpy as np
import torch
from torch.nn import functional

from perfusion_registry.storybook.captions import training_pages
from perfusion_registry.storybook.recogniser import Recogniser, Truth, recogniser_loss
from perfusion_registry.storybook.training.drawings import Shard
from perfusion_registry.storybook.training.precision import autocast
from perfusion_registry.storybook.training.schedule import Clock


def train_recogniser(
    shards: list[Shard], *, seconds: float, start: Recogniser | None = None, batch: int = 64, seed: int = 0
) -> Recogniser:
    """Train for a budget of seconds, from `start` if given, on shards that are blurred and noised at random.

    Blur and noise make it judge shapes and colours, not the crispness that a decoder cannot reach.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = (start or Recogniser()).train().requires_grad_(True)
    model.features.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    truths = [_truth(number, len(shard.images)) for number, shard in enumerate(shards)]
    clock, step = Clock(seconds), 0
    while (progress := clock.progress()) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 50) * (1 - progress)
        which = int(rng.integers(len(shards)))
        rows = np.sort(rng.choice(len(shards[which].images), batch, replace=False))
        x = torch.from_numpy(shards[which].images[rows]).float() / 255
        x = functional.avg_pool2d(x, 2)
        if rng.random() < 0.5:
            x = functional.interpolate(functional.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
        x = (x + torch.randn_like(x) * 0.04 * float(rng.random())).clamp(0, 1)
        if rng.random() < 0.5:
            x = x.flip(-1)
        truth, index = truths[which], torch.from_numpy(rows)
        part = Truth(truth.present[index], truth.look[index], truth.place[index], truth.extras[index])
        with autocast("cpu"):
            logits = model(x.contiguous(memory_format=torch.channels_last))
        present, look, place, extras = (t.float() for t in logits)
        loss = recogniser_loss((present, look, place, extras), part)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        if step % 100 == 0:
            print(f"recogniser step {step} {clock.used():.0f} s  loss {loss.item():.3f}", flush=True)
    model.eval()
    return model


def _truth(number: int, count: int) -> Truth:
    """The truth about a shard's pages, which its number determines."""
    pages = training_pages(Random(f"storybook {number}"))
    return Truth.of([next(pages)[0] for _ in range(count)])
