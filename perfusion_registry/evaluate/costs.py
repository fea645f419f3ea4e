"""What a training costs: numbers learned, seconds, memory; measured where it is done, and kept beside the
scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from perfusion_registry.artifact.durations import BuildTime
from perfusion_registry.memory import forget_most_memory, most_memory
from perfusion_registry.recipe.model import FileModel

if TYPE_CHECKING:
    import torch

    from perfusion_registry.methods.trainable import MakeTrainable, Trainable

_Seconds = Annotated[float, Field(ge=0)]


class Cost(FileModel):
    """What one training cost where it was done.

    parameters: numbers that its optimiser changes. seconds: from its pictures to the choice of its step,
    and processor: those of them that this process computed, on all cores. memory: bytes that were taken at
    once at most: of the GPU, or of the process, base included; None where the system does not tell. steps:
    that were trained. resumed: whether an earlier run had begun it; what that did is counted by the steps
    of this one.
    """

    parameters: Annotated[int, Field(ge=0)]
    seconds: _Seconds
    processor: _Seconds
    memory: Annotated[int, Field(ge=0)] | None
    steps: Annotated[int, Field(ge=0)]
    resumed: bool = False


@dataclass
class Meter:
    """Measures one training on a device, of `steps` steps."""

    device: torch.device
    steps: int
    cost: Cost | None = None
    _parameters: int = 0
    _trained: list[tuple[int, float]] = field(default_factory=list)

    def counted(self, make: MakeTrainable) -> MakeTrainable:
        """The same beginning of a training, whose parameters are counted."""

        def counting(*given: Any) -> Trainable:
            trainable = make(*given)
            self._parameters = sum(tensor.numel() for tensor in trainable.parameters.values())
            return trainable

        return counting

    @property
    def timed(self) -> Callable[[int, float], None]:
        """What is told how many steps were done, and in how many seconds."""
        return lambda steps, seconds: self._trained.append((steps, seconds))

    @property
    def time(self) -> BuildTime:
        """What it took, by its steps and beside them."""
        assert self.cost is not None
        step = sum(took for _, took in self._trained) / sum(steps for steps, _ in self._trained)
        return BuildTime(step=step, rest=max(self.cost.seconds - step * self.steps, 0.0))

    @contextmanager
    def running(self) -> Iterator[None]:
        """What is done inside is measured; `cost` has it afterwards, but for a training of which an earlier
        run had done all steps."""
        marked = _mark(self.device)
        begun, computed = time.monotonic(), time.process_time()
        yield
        seconds, processor = time.monotonic() - begun, time.process_time() - computed
        done = sum(steps for steps, _ in self._trained)
        before = self.steps - done
        if not done:
            return
        if before > 0:  # what an earlier run did took as long as this one's steps
            missed = sum(took for _, took in self._trained) / done * before
            seconds, processor = seconds + missed, processor * (1 + missed / max(seconds, 1e-9))
        self.cost = Cost(
            parameters=self._parameters,
            seconds=round(seconds, 3),
            processor=round(processor, 3),
            memory=_highest(self.device) if marked else None,
            steps=self.steps,
            resumed=before > 0,
        )


def _mark(device: torch.device) -> bool:
    """Forget how much memory was taken at most; whether the system can."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    return device.type == "cpu" and forget_most_memory()


def _highest(device: torch.device) -> int | None:
    """Bytes that were taken at once at most since the mark."""
    import torch

    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else most_memory()
