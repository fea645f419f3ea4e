"""What an explanation of a prompt says, token by token. Imports without torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.recipe import DEFAULT_METHOD


class ExplainedConcept(FileModel):
    """A concept's gate settings and the words at which its gate is at least half open, widest first; a
    concept of a method without a gate has none of these."""

    name: str
    method: Annotated[str, Field(exclude_if=lambda name: name == DEFAULT_METHOD)] = DEFAULT_METHOD
    bias: float | None
    temperature: float | None
    key_lock: str | None
    residual: float | None
    opens_at: tuple[str, ...]


class ExplainedToken(FileModel):
    """One row: a token, or a run of padding, of which it shows the widest gate and the largest energy.

    first, last: token positions. word: the word that the token belongs to, `<start>`, `<end>` or `<padding>`.
    concept: whose call this is, or None. similarity: `sim(i_j, e) / energy_j` per concept; 1 at the target
    input. gate: per concept, in (0, 1). removed: the energy that Eq. 4 takes out of the encoding,
    `sim(e - e_perp, e - e_perp)`, relative to the mean energy of the target inputs.
    """

    first: int
    last: int
    word: str
    concept: str | None
    similarity: dict[str, float]
    gate: dict[str, float]
    removed: float


class Explanation(FileModel):
    """Everything `perf explain` shows; `tokens` are in the order of the prompt."""

    prompt: str
    concepts: tuple[ExplainedConcept, ...]
    tokens: tuple[ExplainedToken, ...]
