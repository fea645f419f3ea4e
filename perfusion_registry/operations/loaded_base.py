"""A base in memory, for an operation: loaded now, or what a program has loaded already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfusion_registry.errors import PerfError
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.workspace import Workspace

if TYPE_CHECKING:
    from perfusion_registry.base import Base, BaseDescription


def rounded_away(description: BaseDescription) -> str | None:
    """A sentence of a base whose weights have fewer digits than it is computed with."""
    from perfusion_registry.base.checkpoint import CheckpointFiles

    if description.prediction is None:
        return None
    return CheckpointFiles.open(description.folder, description.prediction.asked_again).fp8


def load_base(
    workspace: Workspace,
    description: BaseDescription,
    compute: ComputeOptions,
    compute_dtype: str = "auto",
    *,
    loaded: Base | None = None,
) -> Base:
    """Load a base, and say so: it takes seconds.

    loaded: one that is in memory already, and is taken as it is. Raises PerfError where it is another one.
    """
    if loaded is not None:
        if loaded.description.digest != description.digest:
            raise PerfError(
                f"the base that is loaded is {loaded.description.repo} ({loaded.description.digest[:12]}), "
                f"and what is to be drawn needs {description.repo} ({description.digest[:12]})",
                hint="load that one: `project.composer()`",
            )
        return loaded
    if (fp8 := rounded_away(description)) is not None:
        workspace.reporter.note(f"{description.repo}: {fp8}")
    with workspace.reporter.stage(f"Loading {description.repo}"):
        from perfusion_registry.base import load_base as load

        formats = compute.dtype, compute_dtype
        return load(description, compute.device, *formats, offload=compute.offload)
