"""A prompt as the tokens of a base."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from perfusion_registry.base import ChunkEnd, ConceptPiece, Tokens
from perfusion_registry.compose.composition import ComposedConcept
from perfusion_registry.compose.pieces import Break, Prompt, Said, Text
from perfusion_registry.reporter import Reporter

if TYPE_CHECKING:
    from perfusion_registry.base import Base


def tokenised(base: Base, prompt: Prompt, said: Mapping[str, ConceptPiece]) -> Tokens:
    """Tokenise a prompt; `concept_tokens` follow its calls. said: what the calls of each concept become."""

    def part(piece: Said) -> str | ConceptPiece | ChunkEnd:
        if isinstance(piece, Break):
            return ChunkEnd()
        return piece.text if isinstance(piece, Text) else said[piece.name]

    return base.tokenise([part(piece) for piece, _ in prompt.said], whole=not prompt.plain)


def needs_encoding(base: Base, prompts: Iterable[Prompt], said: Mapping[str, ConceptPiece]) -> bool:
    """Whether any of these prompts is more than a pipeline reads by itself: it has weights, or several
    chunks. said: as in `tokenised`."""
    return any(prompt.weighted or tokenised(base, prompt, said).chunks > 1 for prompt in prompts)


def said_as(concept: ComposedConcept, *, spelled: bool = False) -> ConceptPiece:
    """What the calls of a concept become: its tokens or its words. spelled: all tokens of its supercategory
    instead, or of a style's words."""
    if spelled:
        return ConceptPiece(concept.plain, spelled=True)
    if concept.word is not None:
        learned = tuple((one.word, one.vectors) for one in concept.learned)
        return ConceptPiece(concept.word, spelled=True, learned=learned)
    return ConceptPiece(concept.plain, vectors=concept.vectors)


def positions_of(name: str, prompt: Prompt, tokens: Tokens) -> tuple[int, ...]:
    """Every token that calls a concept."""
    return tuple(
        position
        for call, positions in zip(prompt.calls, tokens.concept_tokens, strict=True)
        if call.name == name
        for position in positions
    )


def warn_of_lost(tokens: Tokens, what: str, reporter: Reporter) -> None:
    """Say which words of a prompt do not fit into its text encoder. what: the prompt is called."""
    if tokens.dropped:
        lost = tokens.dropped.strip()
        reporter.warn(f"the {what} is too long for the text encoder; these words are lost: {lost}")
