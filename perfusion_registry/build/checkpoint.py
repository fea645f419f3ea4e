"""What the checkpoint of an unfinished build says of itself, read without torch and without its tensors."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from perfusion_registry.safetensors_header import HeaderError, read_header

CHECKPOINT = "training.safetensors"
"""The file's name in the workspace of a build."""
CHECKPOINT_KEY = "concept_checkpoint"
"""Where its metadata has its progress."""


class TrainingProgress(BaseModel):
    """How far a training is. identity: a digest of everything that it depends on. snapshots: the steps that
    were kept. threads: how many it had."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: str
    step: int
    losses: list[float]
    snapshots: list[int]
    threads: int | None = None


def progress_of(checkpoint: Path) -> TrainingProgress | None:
    """What a checkpoint says; None where there is none that says it."""
    try:
        return TrainingProgress.model_validate_json(read_header(checkpoint).metadata.get(CHECKPOINT_KEY, ""))
    except (OSError, HeaderError, ValidationError):
        return None


def steps_done(workspace: Path) -> int | None:
    """After how many steps the build in a workspace was interrupted; None where it did not begin to train."""
    progress = progress_of(workspace / CHECKPOINT)
    return None if progress is None else progress.step
