"""Whether a base can be learned whole on this machine, told before anything is prepared."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from perfusion_registry import amounts
from perfusion_registry.errors import PerfError
from perfusion_registry.memory import free_memory
from perfusion_registry.methods.dreambooth.keeping import bytes_kept
from perfusion_registry.methods.dreambooth.options import TrainOptions
from perfusion_registry.methods.dreambooth.weights import shapes, unreached
from perfusion_registry.methods.interface import LARGEST_ARTIFACT

if TYPE_CHECKING:
    from perfusion_registry.base import Base

_OTHERWISE = "learn it by `dreambooth-lora`, which learns less than a hundredth of that"
"""The way out for whoever has no room for all weights."""


def require_room(base: Base, name: str, options: TrainOptions) -> None:
    """Raise PerfError where the concept `name` cannot be learned on a base: for layers that no difference can
    change, text encoders that cannot, an artifact that would be too large, and memory that does not suffice.
    """
    text = options.text_encoder
    if text and not base.text_models:
        raise PerfError(
            f"the text encoders of this base cannot be changed, and {name!r} learns them",
            hint="take `text_encoder = true` out of its recipe",
        )
    other = unreached(base, text=text)
    if other is not None:
        raise PerfError(
            f"this base has numbers that no difference can change (`{other}`), "
            f"so {name!r} cannot learn it whole",
            hint="learn it by `dreambooth-lora` or by perfusion",
        )
    learned = shapes(base, text=text)
    kept = bytes_kept(learned, options.rank)
    if kept > LARGEST_ARTIFACT:
        raise PerfError(
            f"what {name!r} keeps would be an artifact of {amounts.size(kept)}, and one has at most "
            f"{amounts.size(LARGEST_ARTIFACT)}",
            hint="say a lower `rank` under [train] of its recipe",
        )
    numbers = sum(shape.numel() for shape in learned.values())
    for place, needed, free in _memory(base, numbers, ceil(options.steps / options.validate_every)):
        if free is not None and needed > free:
            raise PerfError(
                f"{name!r} learns {numbers:,} numbers, which takes at least {amounts.size(needed)} of "
                f"{place}, and {amounts.size(free)} are free",
                hint=_OTHERWISE,
            )


def needed_memory(numbers: int, snapshots: int) -> tuple[int, int]:
    """Bytes at least, where a denoiser computes and in the memory of the machine: there of each number its
    difference, its gradient and Adam's two averages, here what a checkpoint holds while it is written, and
    the steps that one is chosen from, which it holds too."""
    return 4 * 4 * numbers, 4 * (3 + 2 * snapshots) * numbers


def _memory(base: Base, numbers: int, snapshots: int) -> list[tuple[str, int, int | None]]:
    """Of each memory what it is called, what is needed of it, and what is free."""
    there, here = needed_memory(numbers, snapshots)
    if base.device.type != "cuda":
        return [("memory", there + here, free_memory())]
    import torch

    held = torch.cuda.memory_reserved(base.device) - torch.cuda.memory_allocated(base.device)
    free = torch.cuda.mem_get_info(base.device)[0] + held
    return [("the GPU's memory", there, free), ("the machine's memory", here, free_memory())]
