"""Words that a LoRA's file brings (`bundle_emb`), in an artifact: their token embeddings.

| tensor | meaning | shape |
|---|---|---|
| `words.0.text_encoder` ... | of the first word, as the card's `built.words` counts them | (v, d_token) |
| `words.0.text_encoder_2` ... | of bases that have two text encoders | (v, d_token) |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.embeddings import other_widths
from perfusion_registry.methods.interface import TensorRule

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.adapters.adapter import WordVectors
    from perfusion_registry.base import Base

_NAME = re.compile(r"words\.(?P<number>\d{1,3})\.text_encoder(_2)?")
RULE = TensorRule(_NAME.pattern, dimensions=2, half=None)


def word_tensors(words: Iterable[WordVectors]) -> dict[str, Tensor]:
    """Words as the tensors of an artifact."""
    return {
        f"words.{number}.{encoder}": vectors
        for number, word in enumerate(words)
        for encoder, vectors in word.vectors.items()
    }


def without_words(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of adapters."""
    return {name: tensor for name, tensor in tensors.items() if not _NAME.fullmatch(name)}


def words_in(tensors: Mapping[str, Tensor]) -> tuple[tuple[Tensor, ...], ...]:
    """The way back from `word_tensors`: of each word (v, d_token) for each text encoder."""
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if match := _NAME.fullmatch(name):
            found.setdefault(int(match["number"]), {})[name] = tensor
    return tuple(tuple(own[name] for name in sorted(own)) for _, own in sorted(found.items()))


def mistake(tensors: Mapping[str, Tensor]) -> str | None:
    """What keeps the words among these tensors from being whole; None where nothing does."""
    words = words_in(tensors)
    if any(f"words.{number}.text_encoder" not in tensors for number in range(len(words))):
        return "its words are not numbered one after the other"
    if any(len({len(vectors) for vectors in own}) != 1 for own in words):
        return "a word of it is not as many vectors for each text encoder"
    return None


def words_for(base: Base, tensors: Mapping[str, Tensor], name: str) -> tuple[tuple[Tensor, ...], ...]:
    """The words of the concept `name` in fp32. Raises PerfError where they do not fit the base."""
    words = words_in(tensors)
    for own in words:
        other = other_widths(base, own)
        if other is not None:
            raise PerfError(
                f"{name!r} does not fit {base.description.repo}: its words have {other[0]} numbers a token, "
                f"and the base's {other[1]}",
                hint="import the file that was made for this base's kind",
            )
    return tuple(tuple(vectors.float() for vectors in own) for own in words)
