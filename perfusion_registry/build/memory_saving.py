"""Training with the memory that there is: whole batches where they fit, and else what takes more time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from perfusion_registry.amounts import count
from perfusion_registry.reporter import Reporter

if TYPE_CHECKING:
    from perfusion_registry.base import Base


class MemorySaving:
    """What is done about memory that does not suffice, found by trying: first gradient checkpointing, which
    changes no number, then ever smaller parts of a batch, whose gradients are added up in another order.

    part: the samples that the denoiser is asked about at once.
    """

    def __init__(self, base: Base, batch: int, title: str, reporter: Reporter) -> None:
        self._denoiser: Any = base.denoiser
        self._before = bool(getattr(self._denoiser, "is_gradient_checkpointing", False))
        self._kept = not self._before and hasattr(self._denoiser, "enable_gradient_checkpointing")
        self._told = title, reporter
        self._device = base.device
        self.part = batch

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left to be done."""
        return not self._kept and self.part <= 1

    def tighten(self) -> None:
        """Get by with less from now on. Not where an error is still at hand, whose frames hold what a step
        computed, so that nothing of it could be freed."""
        if self._kept:
            self._denoiser.enable_gradient_checkpointing()
            self._kept, what = False, "layers are computed again on the way back"
        else:
            self.part = (self.part + 1) // 2
            what = f"a batch is made in parts of {count(self.part, 'sample')}"
        title, reporter = self._told
        reporter.note(f"{title}: memory is short, so {what}, which takes longer")
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def close(self) -> None:
        """Leave the denoiser as it was."""
        if not self._before and hasattr(self._denoiser, "disable_gradient_checkpointing"):
            self._denoiser.disable_gradient_checkpointing()
