"""Personalised residuals in a UNet: added to its blocks' output projections, and taken off again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from perfusion_registry import edit
from perfusion_registry.base.attention import Watched, attention_share
from perfusion_registry.base.bank import cross_attentions
from perfusion_registry.base.family import layer_order
from perfusion_registry.errors import PerfError

Factors = Mapping[str, tuple[Tensor, Tensor]]
"""One concept's residual: by the path of a transformer block, A (r, m) and B (m', r)."""


def transformer_blocks(unet: nn.Module) -> list[tuple[str, Any]]:
    """Every transformer block with its path, in the order of execution.

    A block here is what the paper calls one: attention layers between two projections, `proj_in` and
    `proj_out`, of which diffusers may have several layers deep.
    """
    found = [
        (path, module)
        for path, module in unet.named_modules()
        if hasattr(module, "proj_out") and hasattr(module, "transformer_blocks")
    ]
    return sorted(found, key=lambda item: layer_order(item[0]))


def block_widths(unet: nn.Module) -> dict[str, tuple[int, int]]:
    """What each transformer block's output projection writes and reads: (m', m), by path."""
    widths = {}
    for path, block in transformer_blocks(unet):
        weight = block.proj_out.weight
        widths[path] = (int(weight.shape[0]), int(weight.shape[1]))
    return widths


@contextmanager
def residuals_attached(
    unet: nn.Module, residuals: Sequence[Factors], focus: Tensor | None = None
) -> Iterator[None]:
    """A context in which concepts' residuals are added to the UNet's output projections (Section 3.2).

    residuals: of J concepts. focus: (B, n, J), the tokens of each sample of the batch that stand for each
    concept, as ones; each residual then applies only where its tokens are attended to (localized
    attention-guided sampling, Section 3.3), in the block's own map of that very step. A sample that calls no
    concept, such as the empty prompt of guidance, is left alone. None: everywhere in every sample, as in
    training. Gradients flow to the factors and through the UNet, never through the maps.

    On exit the very same modules and attention processors are back, whatever happened inside. It works inside
    `Bank.attached`. Raises PerfError when a residual does not fit the UNet's blocks.
    """
    blocks = dict(transformer_blocks(unet))
    _check(blocks, residuals)
    places = None if focus is None else _Places(focus)
    if not residuals or (places is not None and not len(places.rows)):
        yield
        return
    projections = [(block, block.proj_out) for block in blocks.values()]
    maps = {path: _Map(places) for path in blocks} if places is not None else {}
    processors: list[tuple[Any, Any]] = []
    try:
        for path, attention in cross_attentions(unet) if maps else ():
            seen = next(maps[block] for block in maps if path.startswith(f"{block}."))
            processors.append((attention, attention.processor))
            attention.set_processor(Watched(attention.processor, seen.add))
        for path, block in blocks.items():
            factors = [residual[path] for residual in residuals]
            block.proj_out = _Added(block.proj_out, factors, maps.get(path))
        yield
    finally:
        for attention, processor in processors:
            attention.set_processor(processor)
        for block, projection in projections:
            block.proj_out = projection


class _Places:
    """Where concepts are called. rows: the samples of the batch that call any. focus: (R, n, J), of those."""

    def __init__(self, focus: Tensor) -> None:
        self.batch = len(focus)
        self.rows = focus.flatten(1).any(1).nonzero()[:, 0]
        self.focus = focus[self.rows]


class _Map:
    """The attention (R, p, J) to the concepts' tokens in a block's layers, since it was last taken."""

    def __init__(self, places: _Places) -> None:
        self.places = places
        self._total: Tensor | None = None

    def add(self, attention: Any, hidden: Tensor, context: Tensor) -> None:
        """What one layer attends to. hidden: (B, p, c). context: (B, n, d or D)."""
        rows, focus = self.places.rows, self.places.focus
        if len(hidden) != self.places.batch:
            raise ValueError(f"a focus for {self.places.batch} samples, but a batch of {len(hidden)}")
        share = attention_share(attention, hidden[rows], context[rows])  # (R, p, n)
        share = share @ focus.to(share)
        self._total = share if self._total is None else self._total + share

    def take(self) -> Tensor:
        if self._total is None:
            raise ValueError("this transformer block has no cross-attention to find its concepts by")
        share, self._total = self._total, None
        return share


class _Added(nn.Module):
    """Stands in for one output projection, a 1 x 1 convolution or a linear layer: what it gives, and more.

    seen: the block's map, for the samples that it is about; None: everywhere in all of them.
    """

    def __init__(
        self, projection: nn.Module, factors: Sequence[tuple[Tensor, Tensor]], seen: _Map | None
    ) -> None:
        super().__init__()
        # Not registered: they belong to the UNet, and to whoever trains them.
        self._projection = [projection]
        self._factors = factors
        self._seen = seen

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, m, h, w) for a convolution, (B, p, m) for a linear layer; returns the same with m'."""
        out: Tensor = self._projection[0](x)
        if self._seen is None:
            return out + self._residual(x, None).to(out.dtype)
        rows, mask = self._seen.places.rows, edit.localised(self._seen.take())
        return out.index_add(0, rows, self._residual(x[rows], mask).to(out.dtype))

    def _residual(self, x: Tensor, mask: Tensor | None) -> Tensor:
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        factors = [(down.to(dtype), up.to(dtype)) for down, up in self._factors]
        places = x.flatten(2).transpose(1, 2) if x.ndim == 4 else x
        added = edit.residual(places.to(dtype), factors, None if mask is None else mask.to(dtype))
        return added.transpose(1, 2).unflatten(2, x.shape[-2:]) if x.ndim == 4 else added


def _check(blocks: Mapping[str, Any], residuals: Sequence[Factors]) -> None:
    for residual in residuals:
        if set(residual) != set(blocks):
            raise PerfError("a residual is not for this UNet's transformer blocks")
        for path, (down, up) in residual.items():
            weight = blocks[path].proj_out.weight
            if (up.shape[0], down.shape[1]) != tuple(weight.shape[:2]) or up.shape[1] != down.shape[0]:
                raise PerfError("a residual does not fit this UNet's transformer block", where=path)
