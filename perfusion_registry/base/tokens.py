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
    """The place of a concept in a prompt. word: the supercategory.

    spelled: as all tokens of the supercategory. Else it is one token, where the concept's own embedding goes;
    of a supercategory of several tokens the last one keeps that place.
    """

    word: str
    spelled: bool = False


@dataclass(frozen=True)
class TokenisedPrompt:
    """A prompt as the text encoder takes it.

    ids: (n,) int64, with start, end and padding. words: n texts, the word that each token belongs to; "" for
    start, end and padding. concept_positions: the token position of each concept piece, in the order of the
    pieces; of a spelled one the last, which alone has read all of it. concept_tokens: all positions of each.
    dropped: the words that did not fit, as text, or "".
    """

    ids: Tensor
    words: tuple[str, ...]
    concept_positions: tuple[int, ...]
    concept_tokens: tuple[tuple[int, ...], ...]
    dropped: str


def load_tokenizer(description: BaseDescription) -> Any:
    """Load the tokenizer of a base, and nothing else of it. Raises PerfError when it is missing or broken."""
    from perfusion_registry.base.pretrained import load_pretrained, quiet

    with quiet():
        from transformers import CLIPTokenizer

    return load_pretrained(CLIPTokenizer, description.folder / "tokenizer", "the base's tokenizer")


def tokenise(base: Base, pieces: Sequence[str | ConceptPiece]) -> TokenisedPrompt:
    """Tokenise a prompt piece by piece; each concept becomes its supercategory's token, or tokens.

    A prompt that is too long is cut, as the pipeline itself would, and `dropped` says what is lost; a word of
    several tokens of which only some fit counts as lost.
    Raises PerfError when a supercategory is no token at all, or when a concept would be lost.
    """
    import torch

    tokenizer = base.pipe.tokenizer
    length = min(tokenizer.model_max_length, base.text_encoder.config.max_position_embeddings)
    tokens: list[_Token] = []
    concepts: list[tuple[int, ...]] = []
    for number, piece in enumerate(pieces):
        if isinstance(piece, ConceptPiece):
            ids = supercategory_tokens(tokenizer, piece.word)
            ids = ids if piece.spelled else ids[-1:]
            concepts.append(tuple(range(len(tokens), len(tokens) + len(ids))))
            tokens += [_Token(id_, piece.word, (number, 0)) for id_ in ids]
        else:
            tokens += _text_tokens(tokenizer, piece, number)

    room = length - 2
    kept, lost = tokens[:room], tokens[room:]
    dropped = " ".join({token.source: token.word for token in lost}.values())  # each word once
    beyond = [tokens[indices[-1]].word for indices in concepts if indices[-1] >= room]
    if beyond:
        raise PerfError(
            f"the prompt is too long: it has {len(tokens)} tokens, the text encoder takes {room}, "
            f"and a concept would be lost ({', '.join(beyond)})",
            where=f"the end of the prompt: {dropped}",
            hint="shorten the prompt, or move the concepts to its front",
        )
    padding = length - len(kept) - 2
    row = [tokenizer.bos_token_id, *(token.id for token in kept), tokenizer.eos_token_id]
    return TokenisedPrompt(
        ids=torch.tensor(row + [tokenizer.pad_token_id] * padding),
        words=("", *(token.word for token in kept), *[""] * (padding + 1)),
        concept_positions=tuple(indices[-1] + 1 for indices in concepts),
        concept_tokens=tuple(tuple(index + 1 for index in indices) for indices in concepts),
        dropped=dropped,
    )


def supercategory_tokens(tokenizer: Any, word: str) -> list[int]:
    """The ids of a supercategory. Raises PerfError when the tokenizer makes nothing of it."""
    ids = [int(id_) for id_ in tokenizer(word, add_special_tokens=False).input_ids]
    if not ids:
        raise PerfError(
            f"the supercategory {word!r} holds nothing that the tokenizer can read", hint="use a plain word"
        )
    return ids


def several_tokens(tokenizer: Any, word: str) -> str | None:
    """What to tell of a supercategory of several tokens, with words that are one; None where it is one."""
    ids = supercategory_tokens(tokenizer, word)
    if len(ids) == 1:
        return None
    parts = ", ".join(part.removesuffix(_END_OF_WORD) for part in tokenizer.convert_ids_to_tokens(ids))
    similar = _similar_words(tokenizer, word)
    instead = f"; words of one token are {', '.join(similar)}" if similar else ""
    return (
        f"the supercategory {word!r} is {len(ids)} tokens to this base ({parts}), and a concept is one: "
        f"it is locked to the keys of the last{instead}"
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
