"""Training as vanilla ROME has it: o* is optimised at the concept's token alone (Section 3.2, step 2).

Applied afterwards as Eq. 1, it meets every other token of the prompt for the first time: the mismatch of
Challenge 1 and Figure A.1. Everything else is as in Perfusion's training, so that the mismatch is all that
differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from perfusion_registry.methods.perfusion.training import PerfusionTrainable

if TYPE_CHECKING:
    from perfusion_registry.base import Conditioning


class OneIndexTrainable(PerfusionTrainable):
    """A concept whose forward pass replaces the projections of one token and leaves the others."""

    def packed(
        self, prompts: Conditioning, target_input: Tensor, outputs: Tensor, places: Sequence[int] = ()
    ) -> Tensor:
        """`E W^T` with o* at the concept's token of each prompt; no gate has a say. Shapes as in
        `PerfusionTrainable`."""
        h = prompts.states @ self.base.bank.W.T
        if not places:
            return h
        edited = h.clone()
        for row, place in enumerate(places):
            edited[row, place] = self.lock.target_output(outputs)
        return edited

    def identity(self) -> tuple[str, Sequence[Tensor]]:
        """Another training than Eq. 3's of the same inputs."""
        return "one-index", super().identity()[1]
