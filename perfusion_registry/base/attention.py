"""Where a word looks: cross-attention maps, recorded while a UNet runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from perfusion_registry.base.bank import cross_attentions


class AttentionRecorder:
    """A context that records how much each place of the picture attends to chosen tokens.

    positions: for each sample of the batch, the token positions whose attention is summed.
    latent_size: (height, width) of the UNet's input.

    Layers whose map is larger than 16 x 16 and larger than half the latent are left out: they see texture
    rather than things. The UNet computes exactly what it would without a recorder, and its own attention
    processors are back on exit, whatever happened inside. It works inside `Bank.attached` too.
    """

    def __init__(
        self, unet: nn.Module, positions: Sequence[Sequence[int]], latent_size: tuple[int, int]
    ) -> None:
        self._attentions = [attention for _, attention in cross_attentions(unet)]
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
        Raises ValueError when the UNet has not run inside the context.
        """
        if not self._sums:
            raise ValueError("nothing was recorded: run the UNet inside the recorder's context")
        size = max(self._sums)
        total = torch.stack(
            [
                functional.interpolate(sums.unsqueeze(1), size, mode="bilinear", align_corners=False)[:, 0]
                for sums in self._sums.values()
            ]
        ).sum(0)
        return total / sum(self._counts.values())

    def _record(self, attention: Any, hidden: Tensor, context: Tensor) -> None:
        """hidden: (B, h * w, c). context: (B, n, d) encodings, or (B, n, D) packed."""
        size = self._map_size(hidden.shape[1])
        if max(size) > self._largest:
            return
        if hidden.shape[0] != len(self._positions):
            raise ValueError(
                f"positions for {len(self._positions)} samples, but a batch of {hidden.shape[0]}"
            )
        share = attention_share(attention, hidden, context)  # (B, h * w, n)
        chosen = torch.stack([row[:, at].sum(-1) for row, at in zip(share, self._positions, strict=True)])
        chosen = chosen.view(-1, *size)
        self._sums[size] = chosen + self._sums[size] if size in self._sums else chosen
        self._counts[size] = self._counts.get(size, 0) + 1

    def _map_size(self, places: int) -> tuple[int, int]:
        """(h, w) of a map with so many places: the latent, halved and rounded up until it fits."""
        height, width = self._latent_size
        while height * width > places:
            height, width = -(-height // 2), -(-width // 2)
        if height * width != places:
            raise ValueError(f"a latent of {self._latent_size} has no map of {places} places")
        return height, width


def attention_share(attention: Any, hidden: Tensor, context: Tensor) -> Tensor:
    """How much of each place's attention each token gets, averaged over heads; every row sums to one.

    hidden: (B, p, c), the layer's input. context: (B, n, d) encodings, or (B, n, D) packed where the bank is
    attached. Returns (B, p, n) fp32.
    """
    query = attention.head_to_batch_dim(attention.to_q(hidden))  # (B * heads, p, c / heads)
    key = attention.head_to_batch_dim(attention.to_k(context))  # (B * heads, n, c / heads)
    scores = (query.float() @ key.float().transpose(-1, -2)) * attention.scale
    share: Tensor = scores.softmax(-1).view(len(hidden), -1, *scores.shape[1:]).mean(1)
    return share


class Watched:
    """An attention processor that shows its layer's inputs to `see` and leaves the work to the original one.

    see: takes the layer, its input (B, p, c) and its context (B, n, d or D); cross-attention only.
    """

    def __init__(self, original: Any, see: Callable[[Any, Tensor, Tensor], None]) -> None:
        self.original = original
        self.see = see

    @torch.no_grad()
    def _show(self, attention: Any, hidden: Tensor, context: Tensor) -> None:
        self.see(attention, hidden, context)

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """What the original processor gives; its arguments are those of diffusers' processors."""
        if encoder_hidden_states is not None:
            self._show(attn, hidden_states, encoder_hidden_states)
        out: Tensor = self.original(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        return out
