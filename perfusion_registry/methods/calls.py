"""What a call of a concept becomes in a prompt, where that is words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from perfusion_registry.recipe.model import FileModel

MOST_VECTORS = 75
"""Tokens that fit into one chunk of CLIP's text encoders, beside start and end."""


class LearnedWord(FileModel):
    """A word of a concept's phrase that has embeddings of its own. vectors: the tokens that it becomes."""

    word: Annotated[str, Field(min_length=1, max_length=200)]
    vectors: Annotated[int, Field(ge=1, le=MOST_VECTORS)]


@dataclass(frozen=True)
class CallWords:
    """What a call of a concept becomes before it is tokenised. learned: of its words, those that have
    embeddings of the concept's own."""

    words: str
    learned: tuple[LearnedWord, ...] = ()
