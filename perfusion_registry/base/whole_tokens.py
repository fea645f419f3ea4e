"""Prompts for text encoders whose tokenizers read a whole text: a piece alone would be cut into other tokens.

T5 marks the first letter of a word, and Qwen's tokens begin with the space before it, so which tokens are a
concept's is told by their offsets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

from perfusion_registry.base.tokens import ChunkEnd, ConceptPiece, Token, Tokens, laid_out
from perfusion_registry.errors import PerfError


def whole_tokens(tokenizer: Any, pieces: Sequence[str | ConceptPiece | ChunkEnd], length: int) -> Tokens:
    """Tokenise a prompt for a text encoder of `length` positions, all of it at once.

    Each concept piece becomes the last of its supercategory's tokens, or all of them where it is spelled.
    Where a token would hold letters of a concept and of what is beside it, as `pots` of `pot*s`, the prompt
    is read with a space between them. Breaks are nothing. A prompt that is too long is cut, and `dropped`
    says what is lost.
    Raises PerfError when a supercategory is no token at all, or when a concept would be lost.
    """
    found = _read(tokenizer, pieces)
    tokens: list[Token] = []
    concepts: list[tuple[int, ...]] = []
    for number, piece in enumerate(pieces):
        own = [token for token in found if token.source[0] == number]
        if isinstance(piece, ConceptPiece):
            if piece.word and not own:
                raise PerfError(
                    f"the supercategory {piece.word!r} holds nothing that the tokenizer can read",
                    hint="use a plain word",
                )
            own = own if piece.spelled else own[-1:] * piece.vectors
            concepts.append(tuple(range(len(tokens), len(tokens) + len(own))))
            own = [replace(token, word=piece.word, source=(number, 0)) for token in own]
        tokens += own
    return laid_out(tokens, concepts, length, [], tokenizer("").input_ids, tokenizer.pad_token_id)


def several_pieces(tokenizer: Any, word: str) -> str | None:
    """What to tell of a supercategory of several tokens; None where it is one.

    Nothing is wrong with a word in pieces here: these encoders have read all of it at its last piece.
    """
    ids = tokenizer(word, add_special_tokens=False).input_ids
    if len(ids) < 2:
        return None
    parts = " + ".join(token.lstrip("▁Ġ") or "_" for token in tokenizer.convert_ids_to_tokens(ids))
    return (
        f"this base reads the supercategory {word!r} as {parts}, and a concept stands in the place of one of "
        "these: of the last, which has read all of them"
    )


def _read(tokenizer: Any, pieces: Sequence[str | ConceptPiece | ChunkEnd]) -> list[Token]:
    """The tokens of all pieces, each with the piece that it belongs to."""
    texts = [
        piece.word if isinstance(piece, ConceptPiece) else "" if isinstance(piece, ChunkEnd) else piece
        for piece in pieces
    ]
    concepts = {number for number, piece in enumerate(pieces) if isinstance(piece, ConceptPiece)}
    while True:
        whole, ends = "".join(texts), list(accumulate(map(len, texts)))
        encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        tokens, straddled = [], set()
        for id_, (first, beyond) in zip(encoded.input_ids, encoded.offset_mapping, strict=True):
            first += len(whole[first:beyond]) - len(whole[first:beyond].lstrip())
            first = min(first, len(whole) - 1)
            number = next(k for k, end in enumerate(ends) if first < end)
            last = next(k for k, end in enumerate(ends) if max(first, beyond - 1) < end)
            if number != last and {number, last} & concepts and not texts[number].endswith(" "):
                straddled.add(number)
            at = first - ends[number] + len(texts[number])
            spans = (match.span() for match in re.finditer(r"\S+", texts[number]))
            start, end = next((span for span in spans if span[0] <= at < span[1]), (at, at))
            tokens.append(Token(int(id_), texts[number][start:end], (number, start)))
        if not straddled:
            return tokens
        texts = [f"{text} " if number in straddled else text for number, text in enumerate(texts)]
