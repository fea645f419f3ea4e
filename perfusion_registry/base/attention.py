"""Where a word looks: cross-attention maps, recorded while a denoiser runs."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from perfusion_registry.base.layers import CrossAttention

See = Callable[[Any, Tensor, Tensor, Tensor | None], None]
"""Takes a layer, its input (B, p, c), its context (B, n, d or D) and its attention mask, as diffusers has it:
added to the scores, (B, 1 or p, n); or None."""


class AttentionRecorder:
    """A context that records how much each place of the picture attends to chosen tokens.

    positions: for each sample of the batch, the token positions whose attention is summed.
    latent_size: (height, width) of the denoiser's input. every: only the first of so many calls of the
    denoiser counts, where the others are of other prompts.

    Layers whose map is larger than 16 x 16 and larger than half the latent are left out: they see texture
    rather than things. The denoiser computes exactly what it would without a recorder, and its own attention
    processors are back on exit, whatever happened inside. It works where a composition is attached too.
    """

    def __init__(
        self,
        attentions: Sequence[CrossAttention],
        positions: Sequence[Sequence[int]],
        latent_size: tuple[int, int],
        every: int = 1,
    ) -> None:
        self._every = every
        self._calls: Counter[int] = Counter()  # of each layer
        self._attentions = [attention.module for attention in attentions]
        self._positions = [list(chosen) for chosen in positions]
        self._latent_size = latent_size
        self._largest = max(16, max(latent_size) // 2)
        self._sums: dict[tuple[int, int], Tensor] = {}  # (h, w) of a map -> (B, h, w)
        self._counts: dict[tuple[int, int], int] = {}
        self._originals: list[Any] = []

    def __enter__(self) -> AttentionRecorder:
        self._originals = [attention.processor for attention in self._attentions]
        for attention, original in zip(self._attentions, self._originals, strict=True):
            attention.set_processor(Watched(original, self._record))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for attention, original in zip(self._attentions, self._originals, strict=True):
            attention.set_processor(original)

    def maps(self) -> Tensor:
        """(B, h, w) fp32: the mean over all layers, heads and calls, at the size of the largest map recorded.

        Values are probabilities: for each place, the share of its attention that the chosen tokens get.
        Raises ValueError when the denoiser has not run inside the context.
        """
        if not self._sums:
            raise ValueError("nothing was recorded: run the denoiser inside the recorder's context")
        size = max(self._sums)
        total = torch.stack(
            [
                functional.interpolate(sums.unsqueeze(1), size, mode="bilinear", align_corners=False)[:, 0]
                for sums in self._sums.values()
            ]
        ).sum(0)
        return total / sum(self._counts.values())

    def _record(self, attention: Any, hidden: Tensor, context: Tensor, mask: Tensor | None) -> None:
        """hidden: (B, h * w, c). context: (B, n, d) encodings, or (B, n, D) packed. mask: as in `See`."""
        self._calls[id(attention)] += 1
        if (self._calls[id(attention)] - 1) % self._every:
            return
        size = map_size(self._latent_size, hidden.shape[1])
        if max(size) > self._largest:
            return
        if hidden.shape[0] != len(self._positions):
            raise ValueError(
                f"positions for {len(self._positions)} samples, but a batch of {hidden.shape[0]}"
            )
        share = attention_share(attention, hidden, context, mask)  # (B, h * w, n)
        chosen = torch.stack([row[:, at].sum(-1) for row, at in zip(share, self._positions, strict=True)])
        chosen = chosen.view(-1, *size)
        self._sums[size] = chosen + self._sums[size] if size in self._sums else chosen
        self._counts[size] = self._counts.get(size, 0) + 1


def map_size(latent_size: tuple[int, int], places: int) -> tuple[int, int]:
    """(h, w) of a map with so many places: the latent, halved and rounded up until it fits. Raises ValueError
    where none fits."""
    height, width = latent_size
    while height * width > places:
        height, width = -(-height // 2), -(-width // 2)
    if height * width != places:
        raise ValueError(f"a latent of {latent_size} has no map of {places} places")
    return height, width


def exactly(values: Tensor) -> torch.autocast:
    """A context in which products of fp32 tensors on the device of `values` are fp32, whatever the base's
    compute dtype is."""
    return torch.autocast(values.device.type, enabled=False)


def attention_share(
    attention: Any,
    hidden: Tensor,
    context: Tensor,
    mask: Tensor | None = None,
    rows: Tensor | slice = slice(None),
) -> Tensor:
    """How much of each place's attention each token gets, averaged over heads; every row sums to one.

    hidden: (B, p, c), the layer's input. context: (B, n, d) encodings, or (B, n, D) packed where a
    composition is attached. mask: (B, 1 or p, n), added to the scores, or None. rows: the R samples to look
    at; all by default. Returns (R, p, n) fp32.
    """
    query = _by_heads(attention, attention.to_q(hidden[rows]), "norm_q")  # (R * heads, p, c / heads)
    key = _by_heads(attention, attention.to_k(context)[rows], "norm_k")  # (R * heads, n, c / heads)
    with exactly(query):
        scores = (query.float() @ key.float().transpose(-1, -2)) * attention.scale
    if mask is not None:
        mask = mask.reshape(len(hidden), -1, mask.shape[-1])[rows].float()
        scores = scores + mask.repeat_interleave(attention.heads, 0)
    share: Tensor = scores.softmax(-1).view(-1, attention.heads, *scores.shape[1:]).mean(1)
    return share


def _by_heads(attention: Any, projected: Tensor, norm: str) -> Tensor:
    """(B, n, c) to (B * heads, n, c / heads), with the layer's norm of that name where it has one: of each
    head, or of all heads together where it is so wide."""
    normalise: Any = getattr(attention, norm, None)
    weight = getattr(normalise, "weight", None)
    if weight is not None and weight.shape[-1] == projected.shape[-1] and attention.heads > 1:
        projected, normalise = normalise(projected), None
    heads: Tensor = attention.head_to_batch_dim(projected)
    return heads if normalise is None else normalise(heads)


class Watched:
    """An attention processor that shows its layer's inputs to `see`; the work is the original one's."""

    def __init__(self, original: Any, see: See) -> None:
        self.original = original
        self.see = see
        # What diffusers looks at, to know which arguments a processor takes.
        self.__dict__["__call__"] = functools.wraps(original.__call__)(lambda *_, **__: None)

    @torch.no_grad()
    def _show(self, attention: Any, hidden: Tensor, context: Tensor, mask: Tensor | None) -> None:
        self.see(attention, hidden, context, mask)

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """What the original processor gives; its arguments are those of diffusers' processors."""
        if encoder_hidden_states is not None:
            text: Any = encoder_hidden_states
            if isinstance(text, tuple | list):  # with an IP-Adapter: text, and the pictures beside it
                text = text[0]
            self._show(attn, hidden_states, text, attention_mask)
        given = hidden_states, encoder_hidden_states, attention_mask
        if isinstance(self.original, nn.Module):  # as of an IP-Adapter: no layer's own, so it stays behind
            self.original.to(hidden_states.device)
        out: Tensor = self.original(attn, *given, *args, **kwargs)
        return out
