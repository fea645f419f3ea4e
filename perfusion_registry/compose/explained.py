"""What an explanation of a prompt says, token by token. Imports without torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from perfusion_registry.compose.composition import ComposedConcept
from perfusion_registry.methods.settings import Value
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.recipe import DEFAULT_METHOD

_OPTIONS = ("bias", "temperature", "key_lock", "residual")
"""The options that have fields of their own in JSON."""


class ExplainedConcept(FileModel):
    """How a concept is drawn and the words at which its gate is at least half open, widest first.

    bias to residual: of a concept whose method has such options, else None. options: what else its method
    has of options. own_similarity: of its own word in the prompts that it was learned with, where its card
    says it.
    """

    name: str
    method: Annotated[str, Field(exclude_if=lambda name: name == DEFAULT_METHOD)] = DEFAULT_METHOD
    bias: float | None
    temperature: float | None
    key_lock: str | None
    residual: float | None
    options: Annotated[dict[str, Value], Field(exclude_if=lambda options: not options)] = Field(
        default_factory=dict
    )
    opens_at: tuple[str, ...]
    own_similarity: Annotated[float | None, Field(exclude_if=lambda value: value is None)] = None

    @classmethod
    def of(
        cls, concept: ComposedConcept, opens_at: tuple[str, ...], own_similarity: float | None = None
    ) -> ExplainedConcept:
        """A concept of a composition, with the words at which its gate opens."""
        options = concept.render.model_dump(exclude_none=True)
        own = {key: options.pop(key, None) for key in _OPTIONS}
        return cls(
            name=concept.name,
            method=concept.method,
            **own,
            options=options,
            opens_at=opens_at,
            own_similarity=own_similarity,
        )


class ExplainedToken(FileModel):
    """One row: a token, or a run of padding, of which it shows the widest gate and the largest energy.

    first, last: token positions. word: the word that the token belongs to, `<start>`, `<end>` or `<padding>`.
    concept: whose call this is, or None. chunk: which of the prompt's chunks it is in, from 0. weight: what
    its encoding is multiplied by before the edit; the rest is of the encoding without it. similarity:
    `sim(i_j, e) / energy_j` per concept; 1 at the target input. gate: per concept, in (0, 1). removed: the
    energy that Eq. 4 takes out of the encoding, `sim(e - e_perp, e - e_perp)`, relative to the mean energy of
    the target inputs.
    """

    first: int
    last: int
    word: str
    concept: str | None
    chunk: Annotated[int, Field(exclude_if=lambda chunk: chunk == 0)] = 0
    weight: Annotated[float, Field(exclude_if=lambda weight: weight == 1)] = 1.0
    similarity: dict[str, float]
    gate: dict[str, float]
    removed: float

    @property
    def shown(self) -> str:
        """Its word, which may come from a pack of others, without what could steer a terminal."""
        return "".join(character if character.isprintable() else "?" for character in self.word)


class Explanation(FileModel):
    """Everything `perf explain` shows; `tokens` are in the order of the prompt."""

    prompt: str
    concepts: tuple[ExplainedConcept, ...]
    tokens: tuple[ExplainedToken, ...]

    @property
    def legend(self) -> str:
        """What the numbers of a table of the rows are."""
        return (
            "gate: how far the concept's edit acts at a token; sim: how similar the token is to the "
            "concept's own word, which is about 1; removed: how much of the token gives way to the concepts"
        )

    def opened(self, concept: ExplainedConcept) -> str:
        """At which words a concept's gate is at least half open, as a sentence; where at none, what its own
        word had in training."""
        name = concept.name
        wide = [row for row in self.tokens if row.gate[name] >= 0.5]
        if not wide:
            own = concept.own_similarity
            seen = "" if own is None else f" (in training its word had a similarity of {own:.2f})"
            return f"opens nowhere: lower its bias to see more of it{seen}"
        wide.sort(key=lambda row: -row.gate[name])
        words = [
            f"{f'{row.concept}*' if row.concept else row.shown} {row.gate[name]:.2f}" for row in wide[:8]
        ]
        rest = f" and {len(wide) - 8} more" if len(wide) > 8 else ""
        return f"opens at {', '.join(words)}{rest}"
