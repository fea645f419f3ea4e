"""A prompt as the tokens of a base."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from perfusion_registry.base import ConceptPiece, Tokens
from perfusion_registry.compose.pieces import Prompt, Text
from perfusion_registry.reporter import Reporter

if TYPE_CHECKING:
    from perfusion_registry.base import Base


def tokenised(
    base: Base, prompt: Prompt, supercategories: Mapping[str, str], spelled: Collection[str] = ()
) -> Tokens:
    """Tokenise a prompt with each call as one token; `concept_positions` follow its calls.

    spelled: the concepts that are written as all tokens of their supercategories instead.
    """
    pieces: Sequence[str | ConceptPiece] = [
        piece.text
        if isinstance(piece, Text)
        else ConceptPiece(supercategories[piece.name], piece.name in spelled)
        for piece, _ in prompt.said
    ]
    return base.tokenise(pieces)


def warn_of_lost(tokens: Tokens, what: str, reporter: Reporter) -> None:
    """Say which words of a prompt do not fit into its text encoder. what: the prompt is called."""
    if tokens.dropped:
        lost = tokens.dropped.strip()
        reporter.warn(f"the {what} is too long for the text encoder; these words are lost: {lost}")
