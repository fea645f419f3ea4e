"""What the checkpoint of an unfinished build says of itself, read without torch and without its tensors."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from perfusion_registry.errors import PerfError
from perfusion_registry.safetensors_header import HeaderError, read_header

CHECKPOINT = "training.safetensors"
"""The file's name in the workspace of a build."""
CHECKPOINT_KEY = "concept_checkpoint"
"""Where its metadata has its progress."""
CHECKPOINT_VARIABLE = "PERF_CHECKPOINT_SECONDS"
_CHECKPOINT_SECONDS = 10.0


class TrainingProgress(BaseModel):
    """How far a training is. identity: a digest of everything that it depends on. snapshots: the steps that
    were kept. threads: how many it had."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: str
    step: int
    losses: list[float]
    snapshots: list[int]
    threads: int | None = None


def checkpoint_seconds() -> float:
    """Seconds between checkpoints of a training: `PERF_CHECKPOINT_SECONDS`, or ten. Raises PerfError for
    what is no number."""
    said = os.environ.get(CHECKPOINT_VARIABLE, "").strip()
    try:
        seconds = float(said) if said else _CHECKPOINT_SECONDS
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise PerfError(
            f"{said!r} is no number of seconds",
            where=CHECKPOINT_VARIABLE,
            hint="set it to seconds between checkpoints, such as 10, or to nothing",
        )
    return seconds


def progress_of(checkpoint: Path | bytes) -> TrainingProgress | None:
    """What a checkpoint, or its bytes, says; None where there is none that says it."""
    try:
        return TrainingProgress.model_validate_json(read_header(checkpoint).metadata.get(CHECKPOINT_KEY, ""))
    except (OSError, HeaderError, ValidationError):
        return None


def step_of(checkpoint: Path | bytes) -> int:
    """After how many steps a checkpoint was written; 0 for what is none."""
    progress = progress_of(checkpoint)
    return 0 if progress is None else progress.step


def steps_done(workspace: Path) -> int | None:
    """After how many steps the build in a workspace was interrupted; None where it did not begin to train."""
    progress = progress_of(workspace / CHECKPOINT)
    return None if progress is None else progress.step
