"""Encodings: what the text encoder makes of tokens, with concepts' own token embeddings in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from perfusion_registry.base.loading import Base


def encode(base: Base, ids: Tensor, embeddings: Mapping[tuple[int, int], Tensor] | None = None) -> Tensor:
    """The text encoder's outputs; without `embeddings`, exactly those of the pipeline's own `encode_prompt`.

    ids: (B, n) int64. embeddings: for (prompt, position) the token embedding (d_token,) to use there instead of the
    token's own; gradients flow to it. Returns (B, n, d) fp32. The text encoder is unchanged afterwards.
    """
    raise NotImplementedError
