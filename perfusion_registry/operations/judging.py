"""The verdict of a build: what was trained, judged on the base that it was trained on, and its sheet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.artifact import Artifact
from perfusion_registry.base.bounds import BaseBounds
from perfusion_registry.reporter import Reporter
from perfusion_registry.resolve import BuildTask

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.base import Base


def judged(base: Base, task: BuildTask, artifact: Artifact, reporter: Reporter) -> tuple[Artifact, bytes]:
    """The artifact with its verdict, and the strength that serves it best among its scores; and its sheet, a
    JPEG."""
    from perfusion_registry.verdict import judge_concept, sheet_bytes

    result = judge_concept(
        base,
        artifact,
        _pictures(base, [image.path for image in task.images]),
        bounds_of(base),
        choosing=task.left_to_build is not None,
        reporter=reporter,
    )
    scores = artifact.card.scores | {key: float(value) for key, value in result.settings.items()}
    card = artifact.card.model_copy(update={"verdict": result.verdict, "scores": scores})
    return Artifact(card, artifact.tensors, artifact.format_1), sheet_bytes(result.sheet)


def bounds_of(base: Base) -> BaseBounds:
    """What was measured of a base's own pictures; nothing of one that is not read from a folder."""
    folder: Path | None = getattr(base.description, "folder", None)
    return BaseBounds() if folder is None else BaseBounds.read(folder)


def _pictures(base: Base, paths: list[Path]) -> Tensor:
    """Pictures (N, 3, H, W) in 0..1, at the size that the base draws."""
    import torch

    from perfusion_registry.build.framing import square
    from perfusion_registry.build.images import load_image

    return torch.stack([square(load_image(path).pixels, base.picture_size) for path in paths])
