"""Prompts as tokens: pieces of text and concepts, in the layout that the text encoder was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.base.loading import Base


@dataclass(frozen=True)
class ConceptPiece:
    """The place of a concept in a prompt, tokenised as its supercategory. word: the supercategory."""

    word: str


@dataclass(frozen=True)
class TokenisedPrompt:
    """A prompt as the text encoder takes it.

    ids: (n,) int64, with start, end and padding. words: n texts, the word that each token belongs to; "" for start, end
    and padding. concept_positions: the token position of each concept piece, in the order of the pieces.
    dropped: the text that did not fit, or "".
    """

    ids: Tensor
    words: tuple[str, ...]
    concept_positions: tuple[int, ...]
    dropped: str


def tokenise(base: Base, pieces: Sequence[str | ConceptPiece]) -> TokenisedPrompt:
    """Tokenise a prompt piece by piece; each concept becomes its supercategory's single token.

    Raises PerfError when a supercategory is several tokens, or when a concept does not fit into the prompt.
    """
    raise NotImplementedError
