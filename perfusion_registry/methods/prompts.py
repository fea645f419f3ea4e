"""Prompts of a build: templates in which `{}` marks the concept, tokenised once and encoded at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_registry.base import ConceptPiece, InPooledToo
from perfusion_registry.methods.calls import CallWords

if TYPE_CHECKING:
    from perfusion_registry.base import Base, Conditioning, Rows, Tokens

TARGET_PROMPT = "a photo of a {}"
"""Where the supercategory word's encoding, the first i* of a concept, is taken from (Section 4.4)."""


def pieces(
    prompt: str, supercategory: str, *, spelled: bool = False, call: CallWords | None = None
) -> list[str | ConceptPiece]:
    """A template such as "a {} in the snow" as the pieces of a prompt, with the concept at each `{}`.

    spelled: all tokens of the supercategory instead of the concept's one. call: what the concept's place
    becomes instead, where that is words.
    """
    piece = ConceptPiece(supercategory, spelled)
    if call is not None and not spelled:
        learned = tuple((one.word, one.vectors) for one in call.learned)
        piece = ConceptPiece(call.words, True, learned=learned)
    parts: list[str | ConceptPiece] = []
    for index, text in enumerate(prompt.split("{}")):
        if index:
            parts.append(piece)
        if text:
            parts.append(text)
    return parts


def unedited(base: Base, prompts: Conditioning) -> Conditioning:
    """What the K and V projections make of encoded prompts (B, n, d): `E W^T`, (B, n, D), packed."""
    return prompts.with_states(prompts.states @ base.bank.W.T)


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts that each call the concept once. tokens: of each. plain: those that have its supercategory
    instead, and nothing of its own."""

    tokens: tuple[Tokens, ...]
    plain: frozenset[int] = frozenset()

    @classmethod
    def of(
        cls,
        base: Base,
        templates: Sequence[str],
        supercategory: str,
        *,
        spelled: bool = False,
        call: CallWords | None = None,
    ) -> Prompts:
        """Tokenise templates in which `{}` marks the concept, or its supercategory as it is spelled, or what
        a call becomes; each is cut at one chunk."""
        rows = (pieces(template, supercategory, spelled=spelled, call=call) for template in templates)
        return cls(tuple(base.tokenise(row, whole=False) for row in rows))

    @property
    def positions(self) -> tuple[int, ...]:
        """Where the concept is in each; of several tokens the last."""
        return tuple(row.concept_positions[0] for row in self.tokens)

    @property
    def focus(self) -> Tensor:
        """Ones at all tokens of the concept in each, (P, n)."""
        focus = torch.zeros(len(self.tokens), max(map(len, self.tokens)))
        for prompt, row in enumerate(self.tokens):
            focus[prompt, list(row.concept_tokens[0])] = 1
        return focus

    def encode(
        self, base: Base, chosen: Sequence[int], embeddings: Sequence[Tensor]
    ) -> tuple[Conditioning, Tensor]:
        """The chosen prompts with the concept's own embeddings, (d_token,) of each encoder: in its place, or
        in that of the learned word in it; none where it is words of the base.

        Returns U prompts and the encodings (U, d) of the concept in them.
        """
        rows = [self.tokens[row] for row in chosen]
        places = torch.tensor([row.concept_positions[0] for row in rows])
        own = {
            (prompt, 0): _own(row, embeddings)
            for prompt, row in enumerate(rows)
            if embeddings and chosen[prompt] not in self.plain
        }
        prompts = base.encode(rows, own)
        E = prompts.states
        return prompts, E[torch.arange(len(rows), device=E.device), places.to(E.device)]


def _own(row: Tokens, embeddings: Sequence[Tensor]) -> Sequence[Rows]:
    """What a concept has of its own for the tokens of its place, for each text encoder."""
    if not row.own:
        return embeddings
    return InPooledToo([None if at is None else one for at in row.own[0]] for one in embeddings)
