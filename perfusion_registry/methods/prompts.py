"""Prompts of a build: templates in which `{}` marks the concept, tokenised once and encoded at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_registry.base import ConceptPiece

if TYPE_CHECKING:
    from perfusion_registry.base import Base, Conditioning, Tokens

TARGET_PROMPT = "a photo of a {}"
"""Where the supercategory word's encoding, the first i* of a concept, is taken from (Section 4.4)."""


def pieces(prompt: str, supercategory: str, *, spelled: bool = False) -> list[str | ConceptPiece]:
    """A template such as "a {} in the snow" as the pieces of a prompt, with the concept at each `{}`.

    spelled: all tokens of the supercategory instead of the concept's one.
    """
    parts: list[str | ConceptPiece] = []
    for index, text in enumerate(prompt.split("{}")):
        if index:
            parts.append(ConceptPiece(supercategory, spelled))
        if text:
            parts.append(text)
    return parts


def unedited(base: Base, prompts: Conditioning) -> Conditioning:
    """What the K and V projections make of encoded prompts (B, n, d): `E W^T`, (B, n, D), packed."""
    return prompts.with_states(prompts.states @ base.bank.W.T)


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts that each call the concept once. tokens: of each."""

    tokens: tuple[Tokens, ...]

    @classmethod
    def of(
        cls, base: Base, templates: Sequence[str], supercategory: str, *, spelled: bool = False
    ) -> Prompts:
        """Tokenise templates in which `{}` marks the concept, or its supercategory as it is spelled; each is
        cut at one chunk."""
        rows = (pieces(template, supercategory, spelled=spelled) for template in templates)
        return cls(tuple(base.tokenise(row, whole=False) for row in rows))

    @property
    def positions(self) -> tuple[int, ...]:
        """Where the concept is in each."""
        return tuple(row.concept_positions[0] for row in self.tokens)

    def encode(
        self, base: Base, chosen: Sequence[int], embeddings: Sequence[Tensor]
    ) -> tuple[Conditioning, Tensor]:
        """The chosen prompts with the concept's own embeddings in its place: (d_token,) of each encoder.

        Returns U prompts and the encodings (U, d) of the concept in them.
        """
        rows = [self.tokens[row] for row in chosen]
        places = torch.tensor([row.concept_positions[0] for row in rows])
        prompts = base.encode(rows, {(prompt, 0): embeddings for prompt in range(len(rows))})
        E = prompts.states
        return prompts, E[torch.arange(len(rows), device=E.device), places.to(E.device)]
