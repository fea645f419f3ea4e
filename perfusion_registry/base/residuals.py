"""Personalised residuals in a UNet: added to its blocks' output projections, and taken off again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from perfusion_registry import edit
from perfusion_registry.base.attention import attention_share
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
    if not residuals:
        yield
        return
    projections = [(block, block.proj_out) for block in blocks.values()]
    maps = {path: _Map() for path in blocks}
    processors: list[tuple[Any, Any]] = []
    try:
        if focus is not None:
            for path, attention in cross_attentions(unet):
                seen = maps[_block_of(path, maps)]
                processors.append((attention, attention.processor))
                attention.set_processor(_Watching(attention.processor, seen, focus))
        for path, block in blocks.items():
            factors = [residual[path] for residual in residuals]
            block.proj_out = _Added(block.proj_out, factors, maps[path] if focus is not None else None)
        yield
    finally:
        for attention, processor in processors:
            attention.set_processor(processor)
        for block, projection in projections:
            block.proj_out = projection


class _Map:
    """The attention (B, p, J) to the concepts' tokens in a block's layers, since it was last taken."""

    def __init__(self) -> None:
        self._total: Tensor | None = None

    def add(self, share: Tensor) -> None:
        self._total = share if self._total is None else self._total + share

    def take(self) -> Tensor:
        if self._total is None:
            raise ValueError("this transformer block has no cross-attention to find its concepts by")
        share, self._total = self._total, None
        return share


class _Watching:
    """An attention processor that notes where the concepts' tokens are attended to."""

    def __init__(self, original: Any, seen: _Map, focus: Tensor) -> None:
        self.original = original
        self.seen = seen
        self.focus = focus

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        if encoder_hidden_states is not None:
            with torch.no_grad():
                share = attention_share(attn, hidden_states, encoder_hidden_states)  # (B, p, n)
                if share.shape[0] != self.focus.shape[0]:
                    raise ValueError(
                        f"a focus for {self.focus.shape[0]} samples, but a batch of {share.shape[0]}"
                    )
                self.seen.add(share @ self.focus.to(share))
        out: Tensor = self.original(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        return out


class _Added(nn.Module):
    """Stands in for one output projection, a 1 x 1 convolution or a linear layer: what it gives, and more."""

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
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        factors = [(down.to(dtype), up.to(dtype)) for down, up in self._factors]
        mask = edit.localised(self._seen.take()).to(dtype) if self._seen is not None else None
        places = x.flatten(2).transpose(1, 2) if x.ndim == 4 else x
        added = edit.residual(places.to(dtype), factors, mask)
        if x.ndim == 4:
            added = added.transpose(1, 2).unflatten(2, x.shape[-2:])
        return out + added.to(out.dtype)


def _block_of(path: str, blocks: Mapping[str, Any]) -> str:
    """The transformer block that an attention layer is in."""
    return next(block for block in blocks if path.startswith(f"{block}."))


def _check(blocks: Mapping[str, Any], residuals: Sequence[Factors]) -> None:
    for residual in residuals:
        if set(residual) != set(blocks):
            raise PerfError("a residual is not for this UNet's transformer blocks")
        for path, (down, up) in residual.items():
            weight = blocks[path].proj_out.weight
            if (up.shape[0], down.shape[1]) != tuple(weight.shape[:2]) or up.shape[1] != down.shape[0]:
                raise PerfError("a residual does not fit this UNet's transformer block", where=path)
