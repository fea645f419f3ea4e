"""The loop that every network trains in: it resumes after any kill, pauses when asked, and counts pages.

A checkpoint is written beside and renamed, so a killed run leaves the last whole one; SIGTERM and Ctrl-C have
one written first. Whatever a step draws by chance follows from the step's number, so a resumed run ends with
the weights of an unbroken one.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from perfusion_registry.storybook2.training.pause import wait_while_paused
from perfusion_registry.storybook2.training.stopping import StopAsked, asked, check, end_if_asked, stoppable


class Learner(Protocol):
    """A network in training. batch: pages a step."""

    @property
    def batch(self) -> int:
        """Pages that a step takes."""

    def step(self, number: int, pages: int, rate: float) -> dict[str, float]:
        """Step `number`, after `pages` pages, at `rate` times the learning rates; what it measured."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, as tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""


@dataclass(frozen=True)
class Schedule:
    """The share of the peak learning rates over pages: a linear warm-up, then one; with a fall, from
    `fall_from` on over `fall` pages as 1 - sqrt (Hägele et al. 2024)."""

    warmup: int
    fall_from: int | None = None
    fall: int = 0

    def rate(self, pages: int) -> float:
        """The share after `pages` pages."""
        warm = min(1.0, (pages + 1) / max(1, self.warmup))
        if self.fall_from is None or pages <= self.fall_from:
            return warm
        return warm * max(1e-3, 1 - math.sqrt(min(1.0, (pages - self.fall_from) / max(1, self.fall))))


@dataclass
class Progress:
    """How far a training is. history: a row every `Watch.report_every` pages, of pages, seconds and what was
    measured."""

    step: int = 0
    pages: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


Hook = tuple[int, Callable[[Progress], object]]
"""A number of pages, and what to do whenever so many more were seen."""


@dataclass(frozen=True)
class Watch:
    """What happens beside the steps: a checkpoint at most every `save_every` seconds, a line to `log` every
    `report_every` pages, a pause while anybody holds `pause`, and hooks. most_seconds: stop after so many in
    this run, with a checkpoint, however many pages were seen."""

    save_every: float = 120.0
    report_every: int = 2000
    log: Callable[[str], None] = print
    pause: Path | None = None
    hooks: Sequence[Hook] = ()
    most_seconds: float = math.inf


def train(
    name: str, learner: Learner, checkpoint: Path, *, pages: int, schedule: Schedule, watch: Watch
) -> Progress:
    """Train until `pages` were seen over all runs, from `checkpoint` where it exists, and save there. The
    process ends (SystemExit) where it is asked to, once that is saved."""
    progress = load(checkpoint, learner)
    resumed = progress.step
    with stoppable():
        _steps(name, learner, checkpoint, progress, pages=pages, schedule=schedule, watch=watch)
        if progress.step > resumed:
            save(checkpoint, learner, progress)
        if asked():
            watch.log(f"{name} was asked to end, and keeps {progress.pages} pages")
        end_if_asked()
    return progress


def _steps(
    name: str,
    learner: Learner,
    checkpoint: Path,
    progress: Progress,
    *,
    pages: int,
    schedule: Schedule,
    watch: Watch,
) -> None:
    """The steps of `train`, each whole: until all pages are seen, the time is over, or it is asked to end."""
    resumed = progress.step
    smooth: dict[str, float] = {}
    begun, before, saved = time.monotonic(), progress.seconds, time.monotonic()
    waited, last = 0.0, progress.pages
    while progress.pages < pages and time.monotonic() - begun < watch.most_seconds and not asked():
        try:
            if watch.pause is not None:
                waited += wait_while_paused(watch.pause, check=check)
            measured = learner.step(progress.step, progress.pages, schedule.rate(progress.pages))
        except StopAsked:  # while it waited for pages, with which a step begins
            return
        for key, value in measured.items():
            smooth[key] = value if key not in smooth else 0.97 * smooth[key] + 0.03 * value
        progress.step += 1
        progress.pages += learner.batch
        progress.seconds = before + time.monotonic() - begun - waited
        if _passed(progress, learner, watch.report_every) or progress.step - resumed in (1, 10):
            row = {"pages": progress.pages, "seconds": round(progress.seconds, 1)}
            row.update({key: round(value, 4) for key, value in smooth.items()})
            if progress.step - resumed not in (1, 10):
                progress.history.append(row)
            speed = (progress.pages - last) / max(1e-9, time.monotonic() - begun - waited)
            told = "  ".join(f"{key} {value:.4f}" for key, value in smooth.items())
            watch.log(
                f"{name} {progress.pages} pages, {progress.seconds:.0f} s, {speed:.2f} a second  {told}"
            )
        for every, act in watch.hooks:
            if _passed(progress, learner, every):
                act(progress)
        if time.monotonic() - saved > watch.save_every:
            save(checkpoint, learner, progress)
            saved = time.monotonic()


def _passed(progress: Progress, learner: Learner, every: int) -> bool:
    return progress.pages // every > (progress.pages - learner.batch) // every


def save(path: Path, learner: Learner, progress: Progress) -> None:
    """Write what a learner needs to go on to `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".partial")
    torch.save({"learner": learner.state_dict(), "progress": vars(progress)}, beside)
    os.replace(beside, path)


def load(path: Path, learner: Learner) -> Progress:
    """Fill the learner from `path`; at the very beginning, and nothing touched, where there is no file."""
    if not path.exists():
        return Progress()
    saved = torch.load(path, weights_only=True, map_location="cpu")
    learner.load_state_dict(saved["learner"])
    return Progress(**saved["progress"])
