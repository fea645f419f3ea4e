"""Personalised residuals in a denoiser: added to its blocks' output projections, and taken off again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from perfusion_registry import edit
from perfusion_registry.base.attention import Watched, attention_share
from perfusion_registry.base.layers import CrossAttention, ResidualBlock, exchanged
from perfusion_registry.base.quantised import widths
from perfusion_registry.base.residual_masks import Mask
from perfusion_registry.errors import PerfError

Factors = Mapping[str, tuple[Tensor, Tensor]]
"""One concept's residual: by the path of a transformer block, A (r, m) and B (m', r)."""

ALIGNED = 16
"""Marks come in multiples of so many columns: kernels round otherwise where rows are not aligned."""


def block_widths(blocks: Sequence[ResidualBlock]) -> dict[str, tuple[int, int]]:
    """What each transformer block's output projection writes and reads: (m', m), by path."""
    return {block.path: widths(block.projection.module) for block in blocks}


def marked(packed: Tensor, focus: Tensor) -> Tensor:
    """Packed with marks of which concept each token calls, as `residuals_attached` reads them.

    packed: (B, n, D). focus: (B, n, J), ones at the tokens that stand for each concept. Returns (B, n, D + J)
    and a few columns more: so the marks go wherever a pipeline takes its text, into whatever batch it makes.
    """
    filling = focus.new_zeros(*focus.shape[:-1], aligned(focus.shape[-1]) - focus.shape[-1])
    return torch.cat([packed, focus.to(packed), filling.to(packed)], -1)


def aligned(marks: int) -> int:
    """How many columns so many marks take."""
    return marks + -marks % ALIGNED


@contextmanager
def residuals_attached(
    blocks: Sequence[ResidualBlock],
    attentions: Sequence[CrossAttention],
    residuals: Sequence[Factors],
    *,
    everywhere: bool = False,
    masks: Sequence[Mask] = (),
) -> Iterator[None]:
    """A context in which concepts' residuals are added to the blocks' output projections (Section 3.2).

    To be entered while the bank is attached. residuals: of J concepts. The first J columns beside packed mark
    the tokens that stand for each (see `marked`); each residual applies only where its tokens are attended to
    (localized attention-guided sampling, Section 3.3), in the block's own map of that very step. A sample
    without marks, such as the empty prompt of guidance, is left alone. everywhere: packed has no marks, and
    every residual applies everywhere in every sample, as in training. masks: of each residual; without them
    all are ramps. Gradients flow to the factors and
    through the denoiser, never through the maps.

    On exit the very same modules and attention processors are back, whatever happened inside. Raises
    PerfError when a residual does not fit the blocks.
    """
    _check(blocks, residuals)
    if not residuals:
        yield
        return
    usual: Mask = "off" if everywhere else "ramp"
    masks = (usual,) * len(residuals) if everywhere or not masks else masks
    everywhere = all(mask == "off" for mask in masks)
    maps = {} if everywhere else {block.path: _Map(len(residuals)) for block in blocks}
    seen = {path: maps[block.path] for block in blocks if maps for path in block.layers}
    with ExitStack() as contexts:
        for attention in attentions:
            if attention.path in seen:
                contexts.enter_context(_watched(attention.module, seen[attention.path]))
        stand_ins = [
            (
                block.projection,
                _Added(
                    block.projection.module,
                    [residual[block.path] for residual in residuals],
                    masks,
                    maps.get(block.path),
                ),
            )
            for block in blocks
        ]
        contexts.enter_context(exchanged(stand_ins))
        yield


@contextmanager
def _watched(attention: Any, seen: _Map) -> Iterator[None]:
    processor = attention.processor
    attention.set_processor(Watched(processor, seen.add))
    try:
        yield
    finally:
        attention.set_processor(processor)


class _Map:
    """The attention to J concepts' tokens in a block's layers, since it was last taken."""

    def __init__(self, concepts: int) -> None:
        self._concepts = concepts
        self._rows: Tensor | None = None
        self._total: Tensor | None = None

    def add(self, attention: Any, hidden: Tensor, context: Tensor, mask: Tensor | None) -> None:
        """What one layer attends to. hidden: (B, p, c). context: (B, n, D + J), or what stands in for it
        behind a caption projection. mask: as `attention_share` takes it."""
        marks = attention.to_k.marks(context, self._concepts)  # (B, n, J)
        self._rows = marks.flatten(1).any(1).nonzero()[:, 0]  # (R,), the samples that call any
        if not len(self._rows):
            return
        share = attention_share(attention, hidden, context, mask, self._rows)  # (R, p, n)
        share = share @ marks[self._rows].to(share)
        self._total = share if self._total is None else self._total + share

    def take(self) -> tuple[Tensor, Tensor | None]:
        """The samples (R,) that call any concept, and their attention (R, p, J); None where none does."""
        if self._rows is None:
            raise ValueError("this transformer block has no cross-attention to find its concepts by")
        rows, total = self._rows, self._total
        self._rows = self._total = None
        return rows, total


class _Added(nn.Module):
    """Stands in for one output projection, a 1 x 1 convolution or a linear layer: what it gives, and more.

    masks: of each residual. seen: the block's map; None where no mask needs one.
    """

    def __init__(
        self,
        projection: nn.Module,
        factors: Sequence[tuple[Tensor, Tensor]],
        masks: Sequence[Mask],
        seen: _Map | None,
    ) -> None:
        super().__init__()
        self.projection = projection  # which goes where its block goes
        # Not registered: they belong to whoever trains them.
        self._everywhere = [own for own, mask in zip(factors, masks, strict=True) if mask == "off"]
        self._placed = [j for j, mask in enumerate(masks) if mask != "off"]
        self._at_median = [j for j, mask in enumerate(masks) if mask == "median"]
        self._factors = [factors[j] for j in self._placed]
        self._seen = seen

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, m, h, w) for a convolution, (B, p, m) for a linear layer; returns the same with m'."""
        out: Tensor = self.projection(x)
        if self._everywhere:
            out = out + self._residual(x, self._everywhere, None).to(out.dtype)
        if self._seen is None:
            return out
        rows, share = self._seen.take()
        if share is None:
            return out
        mask = edit.localised(share)
        if self._at_median:
            mask[..., self._at_median] = edit.at_median(share[..., self._at_median])
        added = self._residual(x[rows], self._factors, mask[..., self._placed])
        return out.index_add(0, rows, added.to(out.dtype))

    def _residual(self, x: Tensor, own: Sequence[tuple[Tensor, Tensor]], mask: Tensor | None) -> Tensor:
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        factors = [(down.to(dtype), up.to(dtype)) for down, up in own]
        places = x.flatten(2).transpose(1, 2) if x.ndim == 4 else x
        added = edit.residual(places.to(dtype), factors, None if mask is None else mask.to(dtype))
        return added.transpose(1, 2).unflatten(2, x.shape[-2:]) if x.ndim == 4 else added


def _check(blocks: Sequence[ResidualBlock], residuals: Sequence[Factors]) -> None:
    own = block_widths(blocks) if residuals else {}
    for residual in residuals:
        if set(residual) != set(own):
            raise PerfError("a residual is not for this base's transformer blocks")
        for path, (down, up) in residual.items():
            if (up.shape[0], down.shape[1]) != own[path] or up.shape[1] != down.shape[0]:
                raise PerfError("a residual does not fit this base's transformer block", where=path)
