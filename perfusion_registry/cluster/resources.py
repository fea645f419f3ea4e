"""What a task asks of the machine that does it."""

from __future__ import annotations

from dataclasses import dataclass

from perfusion_registry.amounts import count, size
from perfusion_registry.base import BaseDescription

PROCESS = 2**30
"""Bytes of a process that has PyTorch and diffusers, and of what a small training holds."""
_FP32 = 3
"""What a processor holds beside it, in bytes of the files of weights: these in 32 bits instead of 16, and as
much as the files again for a step. (`docs/bases.md` has what steps take; a recipe with large batches needs
more.)"""


@dataclass(frozen=True)
class TaskResources:
    """cpus: threads that a task computes with. gpus: how many GPUs. memory: bytes of the machine, not of a
    GPU."""

    cpus: int = 1
    gpus: int = 0
    memory: int = PROCESS

    @property
    def told(self) -> str:
        """In words: `2 processors, 4.5 GB`."""
        gpus = [count(self.gpus, "GPU")] if self.gpus else []
        return ", ".join([count(self.cpus, "processor"), *gpus, size(self.memory)])


def resources_of(base: BaseDescription, device: str, threads: int | None, gpus_there: bool) -> TaskResources:
    """What a task on a base asks for; to learn a concept takes the most, and all ask for that.

    threads: None is one for each task, of which a machine does as many at once as it has processors and
    memory. gpus_there: whether any machine has a GPU, which `auto` then takes.
    """
    weights = sum(file.size for file in base.files if file.path.endswith((".safetensors", ".gguf")))
    if device.startswith("cuda") or (device == "auto" and gpus_there):
        return TaskResources(threads or 1, 1, PROCESS + weights)
    return TaskResources(threads or 1, 0, PROCESS + _FP32 * weights)
