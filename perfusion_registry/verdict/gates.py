"""Where a concept's gate opens beside its own word: at other words, at a prompt's end, at its padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perfusion_registry.compose.contributing import contributions
from perfusion_registry.compose.explanation import explain
from perfusion_registry.methods.contribution import Contribution
from perfusion_registry.verdict.subject import Trained

OPEN = 0.5
"""From which a gate counts as open, as in an explanation's `opens_at`."""


@dataclass(frozen=True)
class WidestGate:
    """The widest gate that is not at the concept's own word. at: the word, `<end>` or `<padding>`."""

    gate: float
    at: str
    prompt: str


def widest_elsewhere(trained: Trained, templates: Sequence[str]) -> WidestGate | None:
    """The widest gate of all these prompts, `{}` where they call the concept; None where it has no gate."""
    widest: WidestGate | None = None
    brought: Mapping[str, Contribution] | None = None  # the same in every prompt
    for template in dict.fromkeys(templates):
        composition = trained.composed(template)
        artifacts = {trained.name: trained.artifact}
        if brought is None:
            brought = contributions(trained.base, composition, artifacts)
        measured = explain(trained.base, composition, artifacts, brought)
        for row in measured.tokens:
            gate = row.gate.get(trained.name)
            if gate is None or row.concept is not None:
                continue
            if widest is None or gate > widest.gate:
                widest = WidestGate(gate, row.word, composition.prompt)
    return widest
