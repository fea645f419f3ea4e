"""Prompts as CLIP's tokenizers read them: in one chunk of the text encoder's length, or in several."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from perfusion_registry.base.tokens import (
    NAMELESS,
    NOWHERE,
    PLACE,
    ChunkEnd,
    ConceptPiece,
    Tokens,
    supercategory_tokens,
)
from perfusion_registry.errors import PerfError

_COMMA = ",</w>"
_BACK = 20, 75
"""A full chunk ends behind its last comma, where that is among the last so many of so many tokens, as A1111
has it."""


def clip_tokens(
    tokenizer: Any, pieces: Sequence[str | ConceptPiece | ChunkEnd], length: int, *, whole: bool = True
) -> Tokens:
    """Tokenise a prompt for a CLIP text encoder of `length` positions, piece by piece.

    A prompt of more tokens becomes several chunks, each with a start and an end token of its own, as A1111
    and ComfyUI have it; words and concepts are never cut in two by that, unless a word is longer than a
    chunk. Without `whole` it is cut, as diffusers' pipelines would, breaks are nothing, and `dropped` says
    what is lost; a word of several tokens of which only some fit counts as lost.
    Raises PerfError when a supercategory is no token at all, or when a concept would be lost.
    """
    parts: list[list[_Token]] = [[]]
    for number, piece in enumerate(pieces):
        if isinstance(piece, ChunkEnd):
            parts.append([])
        elif isinstance(piece, ConceptPiece):
            called = piece.word or NAMELESS
            for id_, own in _concept_ids(tokenizer, piece):
                parts[-1].append(_Token(id_, called, (number, 0), concept=True, own=own))
        else:
            parts[-1] += _text_tokens(tokenizer, piece, number)

    room = length - 2
    dropped = ""
    if whole:
        comma = tokenizer.convert_tokens_to_ids(_COMMA)
        chunks = [chunk for part in parts for chunk in _chunks(part, room, comma)]
        if len(chunks) > 1 and not chunks[-1]:
            del chunks[-1]
    else:
        every = [token for part in parts for token in part]
        chunks, dropped = [every[:room]], _lost(every, room)

    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    ids: list[int] = []
    words: list[str] = []
    of: list[int | None] = []
    calls = (number for number, piece in enumerate(pieces) if isinstance(piece, ConceptPiece))
    at: dict[int, list[int]] = {number: [] for number in calls}
    learned: dict[int, list[tuple[int, int] | None]] = {number: [] for number in at}
    for chunk in chunks:
        padding = room - len(chunk)
        for place, token in enumerate(chunk):
            if token.concept:
                at[token.source[0]].append(len(ids) + 1 + place)
                learned[token.source[0]].append(token.own)
        ids += [start, *(token.id for token in chunk), end, *[pad] * padding]
        words += ["", *(token.word for token in chunk), *[""] * (padding + 1)]
        of += [None, *(token.source[0] for token in chunk), *[None] * (padding + 1)]
    places = tuple(map(tuple, at.values()))
    return Tokens(
        ids=(tuple(ids),),
        length=len(chunks[-1]) + 2,
        words=tuple(words),
        pieces=tuple(of),
        concept_positions=tuple(indices[-1] if indices else NOWHERE for indices in places),
        concept_tokens=places,
        places=tuple((indices,) for indices in places),
        dropped=dropped,
        blank=((start, end, *[pad] * room),),
        own=tuple(map(tuple, learned.values())) if any(map(any, learned.values())) else (),
    )


@dataclass(frozen=True)
class _Token:
    """A token, the word it belongs to, and (piece, offset of that word) to tell equal words apart. own: which
    learned word and which vector of it, where it is one."""

    id: int
    word: str
    source: tuple[int, int]
    concept: bool = False
    own: tuple[int, int] | None = None


def _concept_ids(tokenizer: Any, piece: ConceptPiece) -> list[tuple[int, tuple[int, int] | None]]:
    """The ids of a concept's place, each with what it is of a learned word."""
    if not piece.spelled:
        ids = supercategory_tokens(tokenizer, piece.word)[-1:] if piece.word else [PLACE]
        return [(id_, None) for id_ in ids * piece.vectors]
    found: list[tuple[int, tuple[int, int] | None]] = []
    for part in piece.parts:
        if isinstance(part, int):
            found += [(PLACE, (part, vector)) for vector in range(piece.learned[part][1])]
        else:
            found += [(id_, None) for id_ in supercategory_tokens(tokenizer, part)]
    return found


def _lost(tokens: Sequence[_Token], room: int) -> str:
    """The words that have tokens beyond `room`, each once. Raises PerfError where a concept is among them."""
    lost = tokens[room:]
    dropped = " ".join({token.source: token.word for token in lost}.values())
    beyond = {token.source: token.word for token in lost if token.concept}
    if beyond:
        raise PerfError(
            f"the prompt is too long: it has {len(tokens)} tokens, the text encoder takes {room}, "
            f"and a concept would be lost ({', '.join(beyond.values())})",
            where=f"the end of the prompt: {dropped}",
            hint="shorten the prompt, or move the concepts to its front",
        )
    return dropped


def _chunks(tokens: Sequence[_Token], room: int, comma: int) -> list[list[_Token]]:
    """The tokens between two breaks in chunks of at most `room`, at least one of which may be empty."""
    back = room * _BACK[0] // _BACK[1]
    chunks: list[list[_Token]] = [[]]
    for word in _whole(tokens, room):
        chunk = chunks[-1]
        if len(chunk) + len(word) > room:
            commas = [place for place, token in enumerate(chunk) if token.id == comma]
            after = commas[-1] + 1 if commas else 0
            near = commas and len(chunk) - commas[-1] <= back
            moved = chunk[after:] if near and len(chunk) - after + len(word) <= room else []
            del chunk[len(chunk) - len(moved) :]
            chunks.append(moved)
        chunks[-1] += word
    return chunks


def _whole(tokens: Sequence[_Token], room: int) -> Iterator[Sequence[_Token]]:
    """The tokens word by word; what is longer than `room` in parts."""
    start = 0
    for end in range(1, len(tokens) + 1):
        if end == len(tokens) or tokens[end].source != tokens[start].source or end - start == room:
            yield tokens[start:end]
            start = end


def _text_tokens(tokenizer: Any, text: str, piece: int) -> Iterator[_Token]:
    spans = [(match.start(), match.end()) for match in re.finditer(r"\S+", text)]
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    several = _several_vectors(tokenizer)
    for id_, (start, _) in zip(encoded.input_ids, encoded.offset_mapping, strict=True):
        first, last = next((span for span in spans if span[0] <= start < span[1]), (start, start))
        for one in several.get(id_, (id_,)):
            yield _Token(one, text[first:last], (piece, first))


def _several_vectors(tokenizer: Any) -> dict[int, list[int]]:
    """The ids that stand for each textual inversion of several vectors, which diffusers adds as `word`,
    `word_1`, ... and prompts call `word`."""
    added: dict[str, int] = tokenizer.added_tokens_encoder
    several = {}
    for word, id_ in added.items():
        ids = [id_]
        while (more := added.get(f"{word}_{len(ids)}")) is not None:
            ids.append(more)
        if len(ids) > 1:
            several[id_] = ids
    return several
