"""Learned token embeddings in a file: for each text encoder of the base one.

| tensor | meaning | shape | type |
|---|---|---|---|
| `embedding` | learned token embedding of the (first) text encoder | (d_token,) | fp32 |
| `embedding.2` ... | that of the second, and so on, of bases that have several | (d_token,) | fp32 |

Of a concept whose calls become v tokens they are (v, d_token), for each encoder as many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.interface import TensorRule

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.base import Base, Tokens

EMBEDDING = "embedding"
_NAMES = rf"{EMBEDDING}(\.[2-9])?"
RULE = TensorRule(_NAMES, dimensions=1, half=False)
SEVERAL = TensorRule(_NAMES, dimensions=None, half=False)
"""Of a method whose calls may become several tokens; `mistake` tells what is none of these shapes."""


def embedding_name(encoder: int) -> str:
    """What the learned token embedding of a text encoder is called; `encoder` counts from 0."""
    return f"{EMBEDDING}.{encoder + 1}" if encoder else EMBEDDING


def embedding_tensors(embeddings: Sequence[Tensor]) -> dict[str, Tensor]:
    """The learned token embeddings (d_token,) of each text encoder by their names in a file."""
    return {embedding_name(encoder): embedding for encoder, embedding in enumerate(embeddings)}


def embedding_groups(base: Base, embeddings: Sequence[Tensor], rate: float) -> list[dict[str, Any]]:
    """Parameters for an optimiser: the embeddings of each table, at a rate for the spread of its numbers.

    rate: for CLIP's.
    """
    rates: dict[float, list[Tensor]] = {}
    for embedding, scale in zip(embeddings, base.embedding_scales, strict=True):
        rates.setdefault(rate * scale, []).append(embedding)
    return [{"params": own, "lr": own_rate} for own_rate, own in rates.items()]


def embeddings_of(tensors: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The way back: the embeddings (d_token,) of each text encoder, from a file's tensors."""
    names = takewhile(tensors.__contains__, map(embedding_name, count()))
    return tuple(tensors[name] for name in names)


def mistake(tensors: Mapping[str, Tensor]) -> str | None:
    """What keeps the embeddings among these tensors from being whole; None where nothing does."""
    if EMBEDDING not in tensors:
        return f"the tensor `{EMBEDDING}` is missing"
    own = embeddings_of(tensors)
    if len(own) != sum(key.startswith(EMBEDDING) for key in tensors):
        return "its embeddings are not numbered one after the other"
    if any(one.ndim not in (1, 2) for one in own) or len({one.shape[:-1] for one in own}) != 1:
        return "its embeddings are not as many vectors for each text encoder"
    return None


def word_embeddings(base: Base, row: Tokens) -> tuple[Tensor, ...]:
    """The token embeddings (d_token,) of a word, of each text encoder; of several tokens their mean.

    row: a prompt that has the word, spelled, as its first concept.
    """
    return tuple(
        table.weight[[ids[place] for place in places]].detach().float().mean(0)
        for table, ids, places in zip(base.embedding_tables, row.ids, row.places[0], strict=True)
    )


def embeddings_of_word(base: Base, word: str) -> tuple[Tensor, ...]:
    """The token embeddings (d_token,) of a supercategory, of each text encoder; of several tokens their
    mean."""
    from perfusion_registry.methods.prompts import TARGET_PROMPT, pieces

    return word_embeddings(base, base.tokenise(pieces(TARGET_PROMPT, word, spelled=True)))


def vectors_for(base: Base, tensors: Mapping[str, Tensor], name: str) -> tuple[Tensor, ...]:
    """The concept's token embeddings of each text encoder of the base, (d_token,) or (v, d_token), in fp32.
    Raises PerfError where they do not fit the base."""
    own = embeddings_of(tensors)
    other = other_widths(base, own)
    if other is not None:
        raise PerfError(
            f"the artifact of {name!r} does not fit this base: its embeddings have {other[0]} numbers a "
            f"token, and {other[1]} are needed",
            hint="import the file that was made for this base's kind, or learn it on this base",
        )
    return tuple(one.float() for one in own)


def other_widths(base: Base, own: Sequence[Tensor]) -> tuple[str, str] | None:
    """The widths of token embeddings (..., d_token) and those of the base's text encoders, to be told, where
    there is not one of each width; None where all fit."""
    theirs = [int(one.shape[-1]) for one in own]
    widths = [int(table.weight.shape[1]) for table in base.embedding_tables]
    if theirs == widths:
        return None
    return " and ".join(map(str, theirs)), " and ".join(map(str, widths))


def embeddings_for(base: Base, tensors: Mapping[str, Tensor], name: str) -> tuple[Tensor, ...]:
    """The concept's token embeddings (d_token,) of each text encoder of the base, in fp32."""
    from perfusion_registry.methods.contribution import vector

    widths = [int(table.weight.shape[1]) for table in base.embedding_tables]
    return tuple(
        vector(tensors, embedding_name(encoder), width, name) for encoder, width in enumerate(widths)
    )
