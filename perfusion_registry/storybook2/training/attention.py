"""Attention that can be read while it trains, and the loss that grounds it on exact masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

NOUN, PART, ATTRIBUTE = 0, 1, 2
"""Kinds of mentions: a thing's noun, the noun of its part or of what it wears, a word about either."""


class Probe:
    """Plain attention for diffusers' models whose cross-attention can be kept; one for all layers of a model.

    Fused attention's backward pass is slow on CPUs, and never tells the probabilities.
    """

    def __init__(self) -> None:
        self._kept: list[Tensor] | None = None

    @contextmanager
    def keeping(self) -> Iterator[list[Tensor]]:
        """The list that cross-attention's probabilities (B, places, tokens), means over heads, go to while
        the block runs, in the order of the layers."""
        self._kept = []
        try:
            yield self._kept
        finally:
            self._kept = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """The attention of one layer. hidden_states: (B, places, d). encoder_hidden_states: (B, n, e)."""
        states = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(states))
        value = attn.head_to_batch_dim(attn.to_v(states))
        empty = query.new_empty(1, 1, 1).expand(query.shape[0], query.shape[1], key.shape[1])
        scores = torch.baddbmm(empty, query, key.transpose(1, 2), beta=0, alpha=attn.scale)
        shares = scores.softmax(-1)
        if encoder_hidden_states is not None and self._kept is not None:
            self._kept.append(shares.float().unflatten(0, (hidden_states.shape[0], attn.heads)).mean(1))
        result = attn.batch_to_head_dim(torch.bmm(shares, value))
        return attn.to_out[1](attn.to_out[0](result))  # type: ignore[no-any-return]


def word_slots(ground: Tensor, kind: Tensor, slots: int) -> tuple[Tensor, Tensor]:
    """Which tokens name each slot, and which tell something about it: two of (B, slots, n) in 0 and 1.

    ground: (B, n), the slot of each token or -1. kind: (B, n), of its mention.
    """
    at = ground[:, None] == torch.arange(slots, device=ground.device)[None, :, None]
    telling = (kind == ATTRIBUTE)[:, None]
    return (at & ~telling).float(), (at & telling).float()


def shares_inside(kept: Tensor, words: Tensor, masks: Tensor) -> Tensor:
    """The share (B, slots) of the attention of each slot's words that lies inside its mask; 0 where it has no
    words.

    kept: attention (B, s * s, n). words: (B, slots, n) in 0 and 1. masks: (B, slots, S, S) in 0..1, S a
    multiple of the side s.
    """
    side = round(kept.shape[1] ** 0.5)
    inside = functional.adaptive_avg_pool2d(masks, side).flatten(2)
    attention = words @ kept.transpose(1, 2)
    return (attention * inside).sum(-1) / attention.sum(-1).clamp_min(1e-6)


def grounding_loss(
    kept: Sequence[Tensor],
    words: Tensor,
    masks: Tensor,
    *,
    smallest: int = 8,
    least_cover: float = 0.5,
) -> tuple[Tensor, Tensor]:
    """Mean of (1 - share)^2 over the layers, and over the slots that have words and can be seen; and the mean
    share.

    kept: attention (B, s * s, n) of several layers, of which those with s < `smallest` do not count. words:
    (B, slots, n). masks: (B, slots, S, S) in 0..1; a slot counts where its greatest cell is covered by more
    than `least_cover`.
    """
    counts = words.any(-1) & (masks.flatten(2).amax(-1) > least_cover)
    number = counts.sum().clamp_min(1)
    layers = [layer for layer in kept if layer.shape[1] >= smallest**2]
    loss, share = kept[0].new_zeros(()), kept[0].new_zeros(())
    for layer in layers:
        found = shares_inside(layer, words, masks)
        loss = loss + ((1 - found).square() * counts).sum() / number
        share = share + (found.detach() * counts).sum() / number
    return loss / max(1, len(layers)), share / max(1, len(layers))
