"""Where each concept is in the pictures of a batch: found in a first phase, and fixed from then on.

While the noise is great, the denoiser reads another prompt, in which the concepts that have regions are their
supercategories, and its own cross-attention to them is recorded: what is where is decided by words that it
knows. Then it reads the prompt itself, and each place belongs to one concept, or to none, until the last
step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from perfusion_registry import edit
from perfusion_registry.base.attention import Watched, attention_share, exactly, map_size
from perfusion_registry.base.layers import CrossAttention

FIRST_PHASE = 0.4
"""The part of the noise levels, from the greatest on, in which regions are found. On Storybook, where two
LoRAs share a picture, after 0.2 of them two things are not told apart yet, and after 0.6 they have their
shapes already (docs/log.md)."""
LEAST, MOST = 0.1, 0.2
"""Of `edit.localised`. A residual, which follows each step's own attention, has narrower places; of fixed
regions these leave out ears and feet."""


class Regions:
    """The regions of J concepts, one of each in every sample that calls any.

    width: of a packed prompt with its marks; what comes in the place of text is two of them, of the prompt
    and of the first phase, the pooled vector of the first phase where the denoiser takes one, and what
    `Reader`s read; the denoiser gets one prompt, and what they read. columns: of the second, those that mark
    the tokens of each concept. levels: how many noise levels there are. At least one call finds regions,
    however small its noise; a call with more noise than the one before begins other pictures.
    """

    def __init__(self, width: int, columns: slice, levels: int) -> None:
        self.width, self.columns, self.levels = width, columns, levels
        self.rows: Tensor | None = None  # (R,), the samples of a batch that call any
        self.finding = True
        self._marks: Tensor | None = None  # (R, n, J)
        self._time: float | None = None
        self._shape: tuple[int, ...] = ()
        self._size = (0, 0)
        self._sums: dict[tuple[int, int], Tensor] = {}  # (h, w) of a map -> (R, h * w, J)
        self._counts: dict[tuple[int, int], int] = {}
        self._masks: dict[tuple[int, int], Tensor] = {}  # (h, w) -> (R, J, h, w)

    @contextmanager
    def attached(self, denoiser: nn.Module, attentions: Sequence[CrossAttention]) -> Iterator[None]:
        """A context in which regions are found while the denoiser runs."""
        with ExitStack() as kept:
            kept.callback(denoiser.register_forward_pre_hook(self._begin, with_kwargs=True).remove)
            for attention in attentions:
                module = attention.module
                kept.callback(module.set_processor, module.processor)
                module.set_processor(Watched(module.processor, self._see))
            yield

    @property
    def batch(self) -> int:
        """The samples of a call."""
        return self._shape[0] if self._shape else 0

    def mask(self, output: Tensor, concept: int) -> Tensor | None:
        """Where a concept is in what a module gives, (R, 1, h, w) or (R, p, 1), 1 within and 0 outside.

        output: (B, c, h, w) or (B, p, c). None while regions are found, and where there are no places.
        """
        if self.finding or self.rows is None or not len(self.rows):
            return None
        if output.ndim == 4:
            return self._sized((output.shape[-2], output.shape[-1]))[:, concept : concept + 1]
        if output.ndim != 3:
            return None
        try:
            size = map_size(self._size, output.shape[1])
        except ValueError:
            return None
        return self._sized(size)[:, concept].flatten(1)[..., None]

    def _begin(
        self, denoiser: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Before a call of the denoiser: what it is called with instead."""
        sample = inputs[0] if inputs else named["sample"]
        time = inputs[1] if len(inputs) > 1 else named["timestep"]
        text = inputs[2] if len(inputs) > 2 else named["encoder_hidden_states"]
        now = float(torch.as_tensor(time).float().max())
        if self._time is None or now > self._time or tuple(sample.shape) != self._shape:
            self._sums, self._counts, self._masks = {}, {}, {}
            marks = text[..., self.width : 2 * self.width][..., self.columns]
            self.rows = marks.flatten(1).any(1).nonzero()[:, 0]
            self._marks = marks[self.rows]
        self._time, self._shape = now, tuple(sample.shape)
        self._size = (sample.shape[-2], sample.shape[-1])
        self.finding = not self._sums or now >= (1 - FIRST_PHASE) * self.levels
        added = named.get("added_cond_kwargs") or {}
        pooled = added.get("text_embeds")
        behind = 2 * self.width + (0 if pooled is None else pooled.shape[-1])
        prompt, first, plain, rest = text.tensor_split((self.width, 2 * self.width, behind), -1)
        if pooled is not None and self.finding:
            named = {**named, "added_cond_kwargs": {**added, "text_embeds": plain[:, 0].to(pooled)}}
        text = torch.cat([first if self.finding else prompt, rest], -1)
        if len(inputs) > 2:
            return (*inputs[:2], text, *inputs[3:]), named
        return inputs, {**named, "encoder_hidden_states": text}

    def _see(self, attention: Any, hidden: Tensor, context: Tensor, mask: Tensor | None) -> None:
        if not self.finding or self.rows is None or self._marks is None or not len(self.rows):
            return
        size = map_size(self._size, hidden.shape[1])
        if max(size) > max(16, max(self._size) // 2):  # texture rather than things
            return
        share = attention_share(attention, hidden, context, mask, self.rows)  # (R, p, n)
        with exactly(share):
            share = share @ self._marks.to(share)
        self._sums[size] = share + self._sums[size] if size in self._sums else share
        self._counts[size] = self._counts.get(size, 0) + 1

    def _sized(self, size: tuple[int, int]) -> Tensor:
        """The masks (R, J, h, w) at one size, of the mean of all that was recorded: none overlap."""
        if size not in self._masks:
            maps = [
                functional.interpolate(
                    sums.transpose(1, 2).unflatten(2, own), size, mode="bilinear", align_corners=False
                )
                for own, sums in self._sums.items()
            ]
            share = torch.stack(maps).sum(0) / sum(self._counts.values())  # (R, J, h, w)
            found = edit.localised(share.flatten(2).transpose(1, 2), least=LEAST, most=MOST)
            self._masks[size] = found.transpose(1, 2).unflatten(2, size)
        return self._masks[size]
