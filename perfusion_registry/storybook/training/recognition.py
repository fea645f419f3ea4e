"""Training the recogniser on drawn pages."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from perfusion_registry.storybook.captions import training_pages
from perfusion_registry.storybook.recogniser import Recogniser
from perfusion_registry.storybook.training.checkpoint import load_checkpoint, save_checkpoint
from perfusion_registry.storybook.training.optimizer import MasterOptimizer
from perfusion_registry.storybook.training.precision import autocast
from perfusion_registry.storybook.training.schedule import Clock, cosine
from perfusion_registry.storybook.training.truth import Truth, recogniser_loss


@dataclass(frozen=True)
class Lesson:
    """Pages to learn from. images: (n, 3, h, w) uint8, of the first n pages of shard `number`, whose truth
    the number determines."""

    images: NDArray[np.uint8]
    number: int

    def truth(self) -> Truth:
        """What the pages show."""
        pages = training_pages(Random(f"storybook {self.number}"))
        return Truth.of([next(pages)[0] for _ in range(len(self.images))])


@dataclass(frozen=True)
class RecogniserPlan:
    """How long and how to train.

    seconds, steps: the budgets, as of `Clock`; the schedule is a function of their use.
    """

    seconds: float = math.inf
    batch: int = 64
    matrix_rate: float = 5e-3
    rest_rate: float = 2e-3
    seed: int = 0
    steps: float = math.inf


def train_recogniser(
    drawn: list[Lesson], redrawn: list[Lesson], plan: RecogniserPlan, folder: Path, *, log: bool = True
) -> Recogniser:
    """Train, or continue from the checkpoint in `folder`; batches are of drawn and of redrawn pages in turn.

    Half of them are blurred, and all are noised a little: so it judges shapes and colours, not the crispness
    that a decoder cannot reach.
    """
    torch.manual_seed(plan.seed)
    model = Recogniser().train()
    model.features.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = MasterOptimizer(model, matrix_rate=plan.matrix_rate, rest_rate=plan.rest_rate)
    state: dict[str, Any] = {"step": 0, "seconds": 0.0, "norms": dict(model.named_buffers())}
    checkpoint = folder / "recogniser.pt"
    load_checkpoint(checkpoint, optimizer, state)
    for name, norm in model.named_buffers():
        norm.copy_(state["norms"][name])
    state["norms"] = dict(model.named_buffers())
    truths = {lesson.number: lesson.truth() for lesson in (*drawn, *redrawn)}
    clock = Clock(plan.seconds, state["seconds"], steps=plan.steps)
    rng = np.random.default_rng(plan.seed + state["step"])
    smooth: float | None = None
    saved = time.monotonic()
    while (progress := clock.progress(state["step"])) < 1:
        lessons = redrawn if redrawn and state["step"] % 2 else drawn
        lesson = lessons[int(rng.integers(len(lessons)))]
        rows = np.sort(rng.choice(len(lesson.images), min(plan.batch, len(lesson.images)), replace=False))
        x = _varied(torch.from_numpy(lesson.images[rows]).float() / 255, rng)
        with autocast("cpu"):
            answers = model(x.contiguous(memory_format=torch.channels_last))
        loss = recogniser_loss(answers, truths[lesson.number][torch.from_numpy(rows)])
        loss.backward()
        optimizer.step(cosine(progress, state["step"], warmup=50), clip=5.0)
        state["step"] += 1
        smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
        if log and state["step"] % 100 == 0:
            print(f"recogniser step {state['step']} {clock.used():.0f} s  loss {smooth:.3f}", flush=True)
        if time.monotonic() - saved > 120:
            saved, state["seconds"] = time.monotonic(), clock.used()
            save_checkpoint(checkpoint, optimizer, state)
    state["seconds"] = clock.used()
    save_checkpoint(checkpoint, optimizer, state)
    return model.eval().requires_grad_(False)


def _varied(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Pages (B, 3, h, w) in 0..1, mirrored or blurred or both or neither, and noised."""
    if rng.random() < 0.5:
        x = functional.interpolate(functional.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
    if rng.random() < 0.5:
        x = x.flip(-1)
    return (x + torch.randn_like(x) * 0.04 * float(rng.random())).clamp(0, 1)
