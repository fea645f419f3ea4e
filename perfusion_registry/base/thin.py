"""The thin form of an edit: the denoiser is given encodings and gates, and each projection makes its part.

Packed is what all projections emit, (B, n, D), made once for a prompt from a second copy of all their
weights. In the thin form the denoiser is given what Eq. 4 makes of the encodings themselves, (B, n, 2 (d +
J')), and each projection emits `E_perp W_l^T + G O_l` by the very module that is there, whatever that is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from perfusion_registry.base.changes import Changes
from perfusion_registry.base.residuals import aligned

GATES = (4, 8, 16)
"""Gates come in so many columns, or in multiples of the last: `torch.compile` makes no graph of its own for
each number of concepts."""


@dataclass(frozen=True, eq=False)
class Thin:
    """What projections add to what they make of encodings.

    outputs: (J, D) fp32, target outputs in bank order, each times its gate. changes: of A adapters, what each
    changes of K and V by path, and how strongly; each times its gate.
    """

    outputs: Tensor
    changes: tuple[tuple[Changes, float], ...] = ()

    @property
    def gates(self) -> int:
        """J', the columns of gates: those of J target outputs, of A adapters, and some that are closed."""
        count = len(self.outputs) + len(self.changes)
        return next((columns for columns in GATES if count <= columns), count + -count % GATES[-1])

    def columns(self, width: int) -> int:
        """How many columns `given` makes of encodings of that width."""
        return aligned(2 * (width + self.gates))

    def given(self, values: tuple[Tensor, Tensor], keys: tuple[Tensor, Tensor]) -> Tensor:
        """What the denoiser is given, (B, n, 2 (d + J') and a few columns more).

        values, keys: what each are made of, E_perp (B, n, d), and the gates (B, n, J + A).
        """
        parts = []
        for E, gates in (values, keys):
            parts += [E, functional.pad(gates, (0, self.gates - gates.shape[-1]))]
        given = torch.cat(parts, -1)
        return functional.pad(given, (0, self.columns(E.shape[-1]) - given.shape[-1]))
