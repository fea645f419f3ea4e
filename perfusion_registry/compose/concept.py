"""A built concept at hand: what a prompt's call refers to."""

from __future__ import annotations

from dataclasses import dataclass, field

from perfusion_registry.artifact import Artifact
from perfusion_registry.compose.prompt import Gate, KeyLock


@dataclass(frozen=True)
class Concept:
    """An artifact with what the project says of it.

    sha256: of the artifact's bytes. gate: what the lockfile says; its unset values come from the card.
    """

    artifact: Artifact
    sha256: str
    gate: Gate = field(default_factory=Gate)

    @property
    def name(self) -> str:
        """The name that prompts call."""
        return self.artifact.card.name

    @property
    def default_gate(self) -> Gate:
        """The gate of a call that nothing else decides.

        A concept whose keys were trained uses them unless a lock is asked for; `local` in its card is only
        the default of the recipe.
        """
        card = self.artifact.card
        asked = self.gate.over(Gate(card.render.bias, card.render.temperature, card.render.key_lock))
        lock: KeyLock | None = asked.key_lock
        if card.train.trained_keys and lock == "local":
            lock = "none"
        return Gate(asked.bias, asked.temperature, lock)
