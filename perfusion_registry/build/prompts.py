"""Prompts of a build: templates in which `{}` marks the concept, tokenised once and encoded at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_registry.base import ConceptPiece, encode, tokenise

if TYPE_CHECKING:
    from perfusion_registry.base import Base

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


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts that each call the concept once. ids: (P, n) on the base's device. positions: P, of its
    token."""

    ids: Tensor
    positions: tuple[int, ...]

    @classmethod
    def of(
        cls, base: Base, templates: Sequence[str], supercategory: str, *, spelled: bool = False
    ) -> Prompts:
        """Tokenise templates in which `{}` marks the concept, or its supercategory as it is spelled."""
        rows = [tokenise(base, pieces(template, supercategory, spelled=spelled)) for template in templates]
        ids = torch.stack([row.ids for row in rows]).to(base.device)
        return cls(ids, tuple(row.concept_positions[0] for row in rows))

    def encode(self, base: Base, chosen: Sequence[int], embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Encodings of the chosen prompts with the concept's own embedding (d_token,) in its place.

        Returns E (U, n, d) and the concept token's encodings (U, d).
        """
        rows = list(chosen)
        places = [self.positions[row] for row in rows]
        E = encode(base, self.ids[rows], dict.fromkeys(enumerate(places), embedding))
        return E, E[torch.arange(len(rows), device=E.device), torch.tensor(places, device=E.device)]
