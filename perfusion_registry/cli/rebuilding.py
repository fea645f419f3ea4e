"""Building again what is built, to see whether the recipe still gives the same concept."""

from __future__ import annotations

import platform
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.artifact import Artifact, Store, load_artifact
from perfusion_registry.cli.construction import Computing, Machine, carry_out
from perfusion_registry.cli.planning import survey
from perfusion_registry.errors import CheckFailedError
from perfusion_registry.reporter import Reporter

if TYPE_CHECKING:
    from perfusion_registry.base import Base

TOLERANCE = 0.02
"""How far a tensor may be from the locked one, as a part of its length, on another kind of processor."""


@dataclass(frozen=True)
class Rebuilt:
    """A concept that was built again.

    distances: of each tensor, the length of the difference over the length of the locked one. wrong: what
    differs otherwise; empty where only numbers do. processor: what built it this time.
    """

    name: str
    version: str
    locked: str
    sha256: str
    distances: dict[str, float]
    wrong: tuple[str, ...]
    processor: str

    @property
    def same(self) -> bool:
        """Whether the very same bytes came out."""
        return self.locked == self.sha256

    @property
    def farthest(self) -> float:
        """The largest distance of a tensor."""
        return max(self.distances.values(), default=0.0)

    def within(self, tolerance: float) -> bool:
        """Whether it is the same concept, numbers aside."""
        return self.same or (not self.wrong and self.farthest <= tolerance)


def rebuild(
    start: Path | None, names: list[str] | None, computing: Computing, reporter: Reporter
) -> list[Rebuilt]:
    """Build concepts of the project (default: all that have a recipe) in an empty store, and compare.

    Neither the store nor the lockfile changes. Raises CheckFailedError for a concept that is not built, or
    has changed since.
    """
    found = survey(start, names)
    unbuilt = found.plan.needed
    if unbuilt:
        raise CheckFailedError(
            f"`{unbuilt[0].name}` cannot be compared: {unbuilt[0].reason}",
            where=str(found.project.manifest_path),
            hint=f"run `perf build {unbuilt[0].name}` or `perf sync` first",
        )
    done = []
    with tempfile.TemporaryDirectory(prefix="perf-rebuild-") as folder:
        fresh = replace(found, store=Store(Path(folder)))
        machine = Machine(fresh, computing, reporter)
        for task in found.plan.tasks:
            assert task.built is not None
            locked = load_artifact(found.store.get(task.built))
            again = carry_out(
                fresh, replace(task, built=None, reusable=None, reason="rebuilt"), machine, reporter
            )
            rebuilt = load_artifact(fresh.store.get(again.sha256))
            done.append(
                Rebuilt(
                    task.name,
                    task.recipe_version,
                    task.built,
                    again.sha256,
                    _distances(rebuilt, locked),
                    tuple(_wrong(rebuilt, locked)),
                    processor(machine.load()[0]),
                )
            )
    return done


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
    """What differs that no processor explains; the scores and the kept step depend on numbers."""
    told = []
    shapes = [{key: tuple(value.shape) for key, value in one.tensors.items()} for one in (again, locked)]
    if shapes[0] != shapes[1]:
        told.append("it has other tensors")
    numbers = {"scores", "steps_kept"}
    cards = [one.card.model_dump(exclude=numbers) for one in (again, locked)]
    told += [f"its card's {field} differs" for field in cards[0] if cards[0][field] != cards[1][field]]
    return told
