"""Learners of all networks at their smallest, on pages of coloured noise, to test the training itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from perfusion_registry.storybook2.recogniser import Labels
from perfusion_registry.storybook2.training.autoencoder import (
    AutoencoderLearner,
    AutoencoderPlan,
    drawn_pages,
)
from perfusion_registry.storybook2.training.contrast import ClipLearner, ClipPlan, Lessons
from perfusion_registry.storybook2.training.denoiser import (
    TOKENS,
    DenoiserLearner,
    DenoiserPlan,
    DenoiserShape,
)
from perfusion_registry.storybook2.training.latents import Admission, Encoded, Supply
from perfusion_registry.storybook2.training.linear import fit
from perfusion_registry.storybook2.training.loop import Progress, Schedule, Watch, train
from perfusion_registry.storybook2.training.recognition import (
    Lesson,
    RecogniserLearner,
    RecogniserPlan,
    Truth,
)
from perfusion_registry.storybook2.training.segmenter import (
    Prompted,
    SegmenterLearner,
    SegmenterPlan,
    segmenter_config,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfusion_registry.storybook2.training.loop import Learner

SHAPE = DenoiserShape(
    vocabulary=50, start=48, end=49, channels=4, widths=(16, 16), heads=2, text=16, text_layers=1
)
LABELS = Labels(("cat", "dog", "cup"), {"main": ("red", "blue")}, {"place": ("", "sea")}, ("next to", "in"))


def autoencoder() -> AutoencoderLearner:
    plan = AutoencoderPlan(widths=(8, 16), channels=2, batch=2, crop=32, crops_until=6, fused=False)
    pages = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), np.uint8)
    encoder = fit(pages, plan.widths, plan.channels)
    return AutoencoderLearner(drawn_pages([pages] * 2, encoder, plan), encoder, plan)


def shard(number: int, pages: int = 5) -> Encoded:
    rng = np.random.default_rng(number)
    ground = rng.integers(-1, 2, (pages, 3, TOKENS)).astype(np.int8)
    return Encoded(
        rng.standard_normal((pages, 4, 16, 16)).astype(np.float16),
        rng.integers(0, 256, (pages, 6, 16, 16), np.uint8),
        rng.integers(0, 50, (pages, 3, TOKENS)).astype(np.int16),
        ground,
        rng.integers(0, 3, ground.shape).astype(np.int8),
    )


def denoiser(**plan: object) -> DenoiserLearner:
    admission = Admission(first=1, uses=0.004, most=3)
    settings = DenoiserPlan(batch=4, average_every=2, fused=False, contrast=0.05)
    settings = DenoiserPlan(**{**vars(settings), **plan})
    return DenoiserLearner(Supply(shard, admission), SHAPE, settings, torch.full((TOKENS,), 49))


def recogniser() -> RecogniserLearner:
    rng = np.random.default_rng(0)
    things = torch.tensor([[0, 1], [2, -1], [1, 2], [0, 2]])
    truth = Truth(
        torch.tensor([[1, 1, 0], [0, 0, 1], [0, 1, 1], [1, 0, 1]]).bool(),
        things,
        {"main": torch.tensor([[0, 1], [1, -1], [0, -1], [1, 1]])},
        {"place": torch.tensor([0, 1, -1, 1])},
        torch.tensor([0, -1, 1, 0]),
    )
    masks = rng.integers(0, 256, (4, 2, 16, 16), np.uint8)
    lesson = Lesson(rng.integers(0, 256, (4, 128, 128, 3), np.uint8), masks, truth)
    return RecogniserLearner(LABELS, [lesson], [lesson], RecogniserPlan(batch=4))


def clip() -> ClipLearner:
    rng = np.random.default_rng(0)
    lessons = Lessons(
        torch.from_numpy(rng.integers(0, 256, (8, 3, 16, 16), np.uint8)),
        torch.from_numpy(rng.integers(0, 50, (8, 3, TOKENS))),
    )
    plan = ClipPlan(size=16, patch=8, width=16, image_layers=1, text_layers=1, joint=8, batch=4)
    return ClipLearner(lessons, SHAPE, plan)


def segmenter() -> SegmenterLearner:
    rng = np.random.default_rng(0)
    lessons = Prompted(
        torch.from_numpy(rng.integers(0, 256, (4, 3, 32, 32), np.uint8)),
        torch.from_numpy(rng.integers(0, 256, (4, 6, 16, 16), np.uint8)),
        torch.from_numpy(rng.integers(0, 50, (8, TOKENS))),
        torch.arange(8) // 2,
        torch.arange(8) % 2,
    )
    plan = SegmenterPlan(
        size=32,
        patch=8,
        width=16,
        image_layers=2,
        text_layers=1,
        joint=16,
        extract=(0, 1),
        reduced=16,
        batch=4,
        absent=0.5,
    )
    return SegmenterLearner(lessons, segmenter_config(plan, 50, start=48, end=49), plan)


LEARNERS: dict[str, Callable[[], Learner]] = {
    "autoencoder": autoencoder,
    "denoiser": denoiser,
    "recogniser": recogniser,
    "clip": clip,
    "segmenter": segmenter,
}


def trained(
    name: str, folder: Path, pages: int, *, save_every: float = 1e9, pause: Path | None = None
) -> tuple[Learner, Progress]:
    """The learner of that name, trained on in `folder` until it has seen `pages`."""
    torch.set_num_threads(1)
    learner = LEARNERS[name]()
    watch = Watch(save_every=save_every, report_every=10**9, log=lambda _: None, pause=pause)
    schedule = Schedule(warmup=8, fall_from=8, fall=8)
    progress = train(name, learner, folder / f"{name}.pt", pages=pages, schedule=schedule, watch=watch)
    return learner, progress
