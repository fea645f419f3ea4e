"""What concepts add to the denoiser, and which tokens of a prompt stand for which of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from perfusion_registry import edit
from perfusion_registry.artifact import Artifact
from perfusion_registry.base import Adaptation, Base, Conditioning, Factors, marked
from perfusion_registry.compose.adapting import adaptation
from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.packing import contributions, encodings_of, targets_of, tokens_of


@dataclass(frozen=True, eq=False)
class ComposedResiduals:
    """The residuals that a composition draws with.

    factors: of J concepts, on the base's device, their strengths in B. focus: (n, J + M), ones at the tokens
    that call each concept, and each of M concepts whose regions are to be found. adaptation: what adapters do
    to the denoiser.
    """

    factors: list[Factors]
    focus: Tensor
    adaptation: Adaptation | None = None

    def marked(self, wanted: Conditioning, others: Conditioning) -> tuple[Conditioning, Conditioning]:
        """The composition's prompt and other prompts, both packed, with marks of where residuals apply: none
        in the others, such as the unwanted branch of guidance."""
        if not self.focus.shape[1]:
            return wanted, others
        none = self.focus.new_zeros(*others.states.shape[:2], self.focus.shape[1])
        beyond = wanted.states.shape[1] - len(self.focus)  # blank chunks, where another prompt has more
        focus = torch.nn.functional.pad(self.focus, (0, 0, 0, beyond))
        return (
            wanted.with_states(marked(wanted.states, focus.expand(len(wanted), -1, -1))),
            others.with_states(marked(others.states, none)),
        )


@torch.no_grad()
def residuals(base: Base, composition: Composition, artifacts: Mapping[str, Artifact]) -> ComposedResiduals:
    """Return what a composition's concepts add to the denoiser: residuals, where they have one of a strength
    that is not 0, and adapters.

    A gate that closes takes the residual with it: beside the strength that is asked for stands how far the
    gate is open at the concept's call, as a part of how far it was in training, 1 at most.
    """
    brought = contributions(base, composition, artifacts)
    shown = [concept for concept in composition.concepts if brought[concept.name].factors]
    styles = {concept.name for concept in composition.concepts if concept.supercategory is None}
    places = {one.name: one.positions for one in composition.concepts if one.name not in styles}
    n = len(tokens_of(base, composition, composition.parsed))
    adapters, marks = adaptation(base, brought, places, n)
    if not shown:
        return ComposedResiduals([], marks, adapters)
    tokens, encoded = encodings_of(base, composition, brought)
    t = targets_of(base, brought)
    similarity = edit.similarity(encoded.states[0].to(base.bank.W), t.I, t.V)  # (n, J)
    gates = edit.gate(similarity, t.bias, t.temperature)
    focus = torch.zeros(len(tokens), len(shown), device=base.device)
    factors: list[Factors] = []
    for column, concept in enumerate(shown):
        contribution, calls = brought[concept.name], list(concept.positions)
        strength = contribution.strength
        if contribution.target is not None:
            j = t.names.index(concept.name)
            options = [similarity.new_tensor([value]) for value in contribution.target.trained]
            trained = edit.gate(similarity[calls, j : j + 1], *options)[:, 0]
            strength *= float((gates[calls, j] / trained).clamp(max=1).amax())
        factors.append(
            {
                path: (down.float().to(base.device), up.float().to(base.device) * strength)
                for path, (down, up) in contribution.factors.items()
            }
        )
        focus[calls, column] = 1
    return ComposedResiduals(factors, torch.cat([focus, marks], -1), adapters)
