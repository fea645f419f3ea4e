"""`verify --rebuild`: build again what is built, to see whether the recipe still gives the same concept."""

from __future__ import annotations

import platform
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from perfusion_registry.artifact import Artifact, Store, load_artifact
from perfusion_registry.artifact.card import as_before
from perfusion_registry.errors import CheckFailedError
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.concept_builder import BuildInputs, ConceptBuilder
from perfusion_registry.operations.plan import load_plan
from perfusion_registry.operations.result import InProcess, Result, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Sha256, Version

if TYPE_CHECKING:
    from perfusion_registry.base import Base

TOLERANCE = 0.02
"""How far a tensor may be from the locked one, as a part of its length, on another kind of processor."""


@dataclass(frozen=True, kw_only=True)
class RebuildOptions:
    """What to build again. names: the concepts (default: all that have a recipe)."""

    names: tuple[str, ...] = ()
    tolerance: float = TOLERANCE
    compute: ComputeOptions = field(default_factory=ComputeOptions)


class RebuiltConcept(FileModel):
    """A concept that was built again.

    distance: of its farthest tensor, the length of the difference over the length of the locked one;
    distances: of each. wrong: what differs otherwise; empty where only numbers do. processor: what built it
    this time.
    """

    name: Name
    version: Version
    locked: Sha256
    sha256: Sha256
    same_bytes: bool
    distance: float
    wrong: tuple[str, ...]
    processor: str
    distances: InProcess[dict[str, float]]

    def within(self, tolerance: float) -> bool:
        """Whether it is the same concept, numbers aside."""
        return self.same_bytes or (not self.wrong and self.distance <= tolerance)


class RebuildResult(Result):
    """`perf verify --rebuild`."""

    schema_: Literal["perf.verify-rebuild/1"] = named("perf.verify-rebuild/1")
    tolerance: float
    rebuilt: tuple[RebuiltConcept, ...]

    @property
    def failed(self) -> tuple[RebuiltConcept, ...]:
        """Those that are farther than the tolerance from what is locked."""
        return tuple(row for row in self.rebuilt if not row.within(self.tolerance))

    def raise_if_failed(self) -> None:
        """Raise CheckFailedError where something did not come out as locked."""
        if self.failed:
            raise CheckFailedError(
                f"{', '.join(f'`{row.name}`' for row in self.failed)} did not come out as locked",
                hint="see whether it was locked with another version of torch or perf, or on another kind of "
                "processor; --tolerance sets how far is too far",
            )


def rebuild(workspace: Workspace, options: RebuildOptions) -> RebuildResult:
    """Build concepts of the project in an empty store, and compare.

    Neither the store nor the lockfile changes. Raises CheckFailedError for a concept that is not built, or
    has changed since.
    """
    planned = load_plan(workspace, options.names or None)
    unbuilt = planned.plan.needed
    if unbuilt:
        raise CheckFailedError(
            f"`{unbuilt[0].name}` cannot be compared: {unbuilt[0].reason}",
            where=str(planned.project.manifest_path),
            hint=f"run `perf build {unbuilt[0].name}` or `perf sync` first",
        )
    rows = []
    with tempfile.TemporaryDirectory(prefix="perf-rebuild-") as folder:
        fresh = replace(planned, store=Store(Path(folder)))
        builder = ConceptBuilder(BuildInputs.of(fresh), options.compute, workspace.reporter)
        for task in planned.plan.tasks:
            assert task.built is not None
            locked = load_artifact(planned.store.get(task.built))
            if task.transferred is not None:
                fresh.store.put(planned.store.get(task.transferred))
            again_task = replace(task, built=None, reusable=None, reason="rebuilt")
            built = builder.build(again_task, format_1=locked.card.schema_version == 1)
            again = load_artifact(fresh.store.get(built.sha256))
            distances = _distances(again, locked)
            rows.append(
                RebuiltConcept(
                    name=task.name,
                    version=task.recipe_version,
                    locked=task.built,
                    sha256=built.sha256,
                    same_bytes=task.built == built.sha256,
                    distance=max(distances.values(), default=0.0),
                    wrong=tuple(_wrong(again, locked)),
                    processor=processor(builder.load()[0]),
                    distances=distances,
                )
            )
    return RebuildResult(tolerance=options.tolerance, rebuilt=tuple(rows))


def processor(base: Base) -> str:
    """The kind of processor that a base computes on, and the library: what the bytes may depend on."""
    import torch

    device = base.device
    if device.type == "cuda":
        kind = torch.cuda.get_device_name(device)
    else:
        threads = f"{torch.get_num_threads()} threads"  # sums are split among them
        kind = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {threads}"
    return f"{device.type} ({kind}), torch {torch.__version__}"


def _distances(again: Artifact, locked: Artifact) -> dict[str, float]:
    distances = {}
    for key, value in sorted(locked.tensors.items()):
        other = again.tensors.get(key)
        if other is not None and other.shape == value.shape:
            difference = (other.cpu().double() - value.double()).norm()
            distances[key] = float(difference / value.double().norm().clamp(min=1e-12))
    return distances


def _wrong(again: Artifact, locked: Artifact) -> list[str]:
    """What differs that no processor explains; the scores, the verdict, the kept step and what else a build
    finds out or chooses depend on numbers."""
    wrong = []
    shapes = [
        {key: tuple(value.shape) for key, value in artifact.tensors.items()} for artifact in (again, locked)
    ]
    if shapes[0] != shapes[1]:
        wrong.append("it has other tensors")
    numbers: dict[str, Any] = {"scores": True, "built": {"step"}}
    chosen = {again.card.chosen, locked.card.chosen} - {None}
    numbers |= {"render": chosen} if chosen else {}
    cards = [as_before(artifact.card).model_dump(exclude=numbers) for artifact in (again, locked)]
    wrong += [f"its card's {field} differs" for field in cards[0] if cards[0][field] != cards[1][field]]
    return wrong
