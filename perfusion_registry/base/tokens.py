"""Prompts as tokens: pieces of text and concepts, in the layout that the text encoder was trained on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.base.description import BaseDescription
    from perfusion_registry.base.loading import Base

_END_OF_WORD = "</w>"


@dataclass(frozen=True)
class ConceptPiece:
    """The place of a concept in a prompt, tokenised as its supercategory. word: the supercategory."""

    word: str


@dataclass(frozen=True)
class TokenisedPrompt:
    """A prompt as the text encoder takes it.

    ids: (n,) int64, with start, end and padding. words: n texts, the word that each token belongs to; "" for
    start, end and padding. concept_positions: the token position of each concept piece, in the order of the
    pieces. dropped: the words that did not fit, as text, or "".
    """

    ids: Tensor
    words: tuple[str, ...]
    concept_positions: tuple[int, ...]
    dropped: str


def load_tokenizer(description: BaseDescription) -> Any:
    """Load the tokenizer of a base, and nothing else of it. Raises PerfError when it is missing or broken."""
    from perfusion_registry.base.pretrained import load_pretrained, quiet

    with quiet():
        from transformers import CLIPTokenizer

    return load_pretrained(CLIPTokenizer, description.folder / "tokenizer", "the base's tokenizer")


def tokenise(base: Base, pieces: Sequence[str | ConceptPiece]) -> TokenisedPrompt:
    """Tokenise a prompt piece by piece; each concept becomes its supercategory's single token.

    A prompt that is too long is cut, as the pipeline itself would, and `dropped` says what is lost; a word of
    several tokens of which only some fit counts as lost.
    Raises PerfError when a supercategory is several tokens, or when a concept would be lost.
    """
    import torch

    tokenizer = base.pipe.tokenizer
    length = min(tokenizer.model_max_length, base.text_encoder.config.max_position_embeddings)
    tokens: list[_Token] = []
    concepts: list[int] = []
    for number, piece in enumerate(pieces):
        if isinstance(piece, ConceptPiece):
            concepts.append(len(tokens))
            tokens.append(_Token(single_token(tokenizer, piece.word), piece.word, (number, 0)))
        else:
            tokens += _text_tokens(tokenizer, piece, number)

    room = length - 2
    kept, lost = tokens[:room], tokens[room:]
    dropped = " ".join({token.source: token.word for token in lost}.values())  # each word once
    beyond = [tokens[index].word for index in concepts if index >= room]
    if beyond:
        raise PerfError(
            f"the prompt is too long: it has {len(tokens)} tokens, the text encoder takes {room}, "
            f"and a concept would be lost ({', '.join(beyond)})",
            where=f"the end of the prompt: {dropped}",
            hint="shorten the prompt, or move the concepts to its front",
        )
    padding = length - len(kept) - 2
    ids = [tokenizer.bos_token_id, *(token.id for token in kept), tokenizer.eos_token_id]
    return TokenisedPrompt(
        ids=torch.tensor(ids + [tokenizer.pad_token_id] * padding),
        words=("", *(token.word for token in kept), *[""] * (padding + 1)),
        concept_positions=tuple(index + 1 for index in concepts),
        dropped=dropped,
    )


def single_token(tokenizer: Any, word: str) -> int:
    """The id of a supercategory. Raises PerfError when the tokenizer makes several tokens (or none) of it."""
    ids = tokenizer(word, add_special_tokens=False).input_ids
    if len(ids) == 1:
        return int(ids[0])
    if not ids:
        raise PerfError(
            f"the supercategory {word!r} holds nothing that the tokenizer can read", hint="use a plain word"
        )
    parts = ", ".join(part.removesuffix(_END_OF_WORD) for part in tokenizer.convert_ids_to_tokens(ids))
    similar = _similar_words(tokenizer, word)
    raise PerfError(
        f"the supercategory {word!r} is {len(ids)} tokens to this base ({parts}), and a concept is one token",
        hint=f"use a word that is one token{', such as ' + ', '.join(similar) if similar else ''}",
    )


@dataclass(frozen=True)
class _Token:
    """A token, the word it belongs to, and (piece, offset of that word) to tell equal words apart."""

    id: int
    word: str
    source: tuple[int, int]


def _text_tokens(tokenizer: Any, text: str, piece: int) -> Iterator[_Token]:
    spans = [(match.start(), match.end()) for match in re.finditer(r"\S+", text)]
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    for id_, (start, _) in zip(encoded.input_ids, encoded.offset_mapping, strict=True):
        first, last = next((span for span in spans if span[0] <= start < span[1]), (start, start))
        yield _Token(id_, text[first:last], (piece, first))


def _similar_words(tokenizer: Any, word: str) -> list[str]:
    """Up to four single-token words: those within `word` first, then those spelt like it."""
    vocabulary = {
        token.removesuffix(_END_OF_WORD)
        for token in tokenizer.get_vocab()
        if token.endswith(_END_OF_WORD) and token.removesuffix(_END_OF_WORD).isalpha() and len(token) > 6
    }
    within = [part for part in re.split(r"[\W_]+", word.lower())[::-1] if part in vocabulary]
    spelt = difflib.get_close_matches(word.lower(), vocabulary - set(within), n=4, cutoff=0.6)
    return [*within, *spelt][:4]
