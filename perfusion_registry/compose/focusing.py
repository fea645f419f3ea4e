"""Which tokens of a prompt stand for which residual, as localized attention-guided sampling needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from perfusion_registry.artifact import Artifact
from perfusion_registry.base import Base, Factors
from perfusion_registry.compose.composition import Composition


@dataclass(frozen=True, eq=False)
class Residuals:
    """The residuals that a composition draws with.

    factors: of J concepts, on the base's device, their strengths in B. focus: (n, J), ones at the tokens that
    call each concept.
    """

    factors: list[Factors]
    focus: Tensor

    def rows(self, wanted: int, unwanted: int) -> Tensor:
        """The focus (unwanted + wanted, n, J) of a batch: none in the unwanted branch of guidance."""
        none = torch.zeros_like(self.focus).expand(unwanted, -1, -1)
        return torch.cat([none, self.focus.expand(wanted, -1, -1)])


def residuals(base: Base, composition: Composition, artifacts: Mapping[str, Artifact]) -> Residuals:
    """Return the residuals of a composition's concepts; those without one, or of strength 0, have no part."""
    shown = [concept for concept in composition.concepts if concept.residual]
    tokens = int(base.pipe.tokenizer.model_max_length)
    focus = torch.zeros(tokens, len(shown), device=base.device)
    factors: list[Factors] = []
    for j, concept in enumerate(shown):
        strength = concept.residual or 0.0
        factors.append(
            {
                path: (down.float().to(base.device), up.float().to(base.device) * strength)
                for path, (down, up) in artifacts[concept.name].residual().items()
            }
        )
        focus[list(concept.positions), j] = 1
    return Residuals(factors, focus)
