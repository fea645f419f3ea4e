"""Where each token of a prompt is in the same prompt with its supercategories spelled out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from perfusion_registry.base import Tokens
from perfusion_registry.errors import PerfError


def aligned(tokens: Tokens, spelled: Tokens) -> Tensor:
    """Return, for each position of a prompt, where it is when its supercategories are spelled out; (n,).

    The tokens of a concept are where the last token of its supercategory is, the only one that has read all
    of it; a word is where it is, be it in another chunk; start and end of a chunk stay that chunk's, and
    the last padding stands for what is pushed out. Raises PerfError where spelling them makes a prompt, which
    is cut, lose words.
    """
    pairs = zip(tokens.concept_tokens, spelled.concept_tokens, strict=True)
    if spelled.dropped and any(len(one) < len(other) for one, other in pairs):
        raise PerfError(
            f"the prompt is too long for a global lock: with the supercategories spelled out, "
            f"these words are lost: {spelled.dropped.strip()}",
            hint="shorten the prompt, or use lock=local",
        )
    places: dict[int, list[int]] = {}  # of the tokens of each piece
    for position, piece in enumerate(spelled.pieces):
        if piece is not None:
            places.setdefault(piece, []).append(position)
    concepts = {
        position: there
        for own, there in zip(tokens.concept_tokens, spelled.concept_positions, strict=True)
        for position in own
    }
    met: dict[int, int] = {}
    size, ends, spelled_ends = tokens.chunk, tokens.ends(), spelled.ends()
    rows = []
    for position, piece in enumerate(tokens.pieces):
        if position in concepts:
            rows.append(concepts[position])
        elif piece is not None:
            rows.append(places[piece][met.get(piece, 0)])
            met[piece] = met.get(piece, 0) + 1
        else:
            chunk = min(position // size, len(spelled_ends) - 1)
            start, behind = chunk * size, position - ends[position // size]
            last = start + size - 1
            rows.append(start if position % size == 0 else min(spelled_ends[chunk] + behind, last))
    return torch.tensor(rows)


def lined_up(E: Tensor, tokens: Sequence[Tokens], spelled: Sequence[Tokens]) -> Tensor:
    """The encodings E (B, n', d) of prompts with supercategories spelled out, where their tokens are without;
    (B, n, d), the shorter ones filled up with blank chunks (`room_for_blanks`)."""
    n, rows = max(map(len, tokens)), []
    for e, one, other in zip(E, tokens, spelled, strict=True):
        blanks = [e[-one.chunk :]] * ((n - len(one)) // one.chunk)
        rows.append(torch.cat([e[aligned(one, other).to(e.device)], *blanks]))
    return torch.stack(rows)


def room_for_blanks(tokens: Sequence[Tokens], spelled: Sequence[Tokens]) -> int | None:
    """To how many positions to encode spelled prompts, so that each that `lined_up` fills up has a blank
    chunk; None for the longest of them."""
    n, longest = max(map(len, tokens)), max(map(len, spelled))
    full = any(len(one) < n and len(other) == longest for one, other in zip(tokens, spelled, strict=True))
    return longest + spelled[0].chunk if full else None
