"""The bank: the K and V projections of every cross-attention layer, stacked into one matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from perfusion_registry.base.layers import CrossAttention, ModuleSlot, exchanged
from perfusion_registry.base.offload_hooks import plain_copy
from perfusion_registry.base.quantised import computes_in, is_plain, weight_of
from perfusion_registry.errors import PerfError


@dataclass(frozen=True)
class BankLayer:
    """One cross-attention layer's place in the bank.

    path: of the layer within the denoiser. key_slice, value_slice: its rows of W, its columns of `packed`.
    """

    path: str
    key_slice: slice
    value_slice: slice


@dataclass(frozen=True, eq=False)
class Bank:
    """Every text projection of a denoiser as one matrix W (D, d): rows are layer by layer, K before V, in the
    order of execution.

    layers: where each layer lies in it. key_columns: (D,) bool, true for the rows of keys. A projection's
    bias is not in W: it stays on top of what is emitted in the projection's place. width: d, of what K and V
    read. captions: where the modules are that all text passes through on its way to the layers (a *caption
    projection*), in their order; K and V read what comes out behind them. projecting: these in fp32, the
    denoiser's own where they are.
    """

    layers: tuple[BankLayer, ...]
    key_columns: Tensor
    projections: tuple[tuple[ModuleSlot, nn.Linear, slice], ...]
    width: int
    captions: tuple[tuple[ModuleSlot, nn.Module], ...] = ()
    projecting: tuple[nn.Module, ...] = ()

    @classmethod
    def of(cls, attentions: Sequence[CrossAttention], captions: Sequence[ModuleSlot] = ()) -> Bank:
        """Gather the bank of these layers, in this order, their weights unchanged.

        Raises PerfError when there are none, when a projection is not a plain linear layer (a LoRA that is
        not merged, a layer that is quantised otherwise than by GGUF), because its weight is then not all of
        it, and when a composition is attached to them already.
        """
        if not attentions:
            raise PerfError("this model has no text cross-attention that could be edited")
        keys: list[Tensor] = []
        layers: list[BankLayer] = []
        projections: list[tuple[ModuleSlot, nn.Linear, slice]] = []
        start = 0
        for attention in attentions:
            places = [ModuleSlot(attention.module, name) for name in ("to_k", "to_v")]
            key, value = (_plain(place, attention.path) for place in places)
            middle = start + key.out_features
            end = middle + value.out_features
            layers.append(BankLayer(attention.path, slice(start, middle), slice(middle, end)))
            projections += [(places[0], key, slice(start, middle)), (places[1], value, slice(middle, end))]
            keys += [
                torch.ones(middle - start, dtype=torch.bool),
                torch.zeros(end - middle, dtype=torch.bool),
            ]
            start = end
        widths = {linear.in_features for _, linear, _ in projections}
        if len(widths) != 1:
            listed = ", ".join(str(width) for width in sorted(widths))
            raise PerfError(f"this model's cross-attention layers read inputs of several widths: {listed}")
        return cls(
            tuple(layers),
            torch.cat(keys).to(projections[0][1].weight.device),
            tuple(projections),
            widths.pop(),
            tuple((slot, slot.module) for slot in captions),
            tuple(_in_fp32(slot.module) for slot in captions),
        )

    @property
    def device(self) -> torch.device:
        """Where its weights were when it was made, and where all that it makes of encodings is."""
        return self.key_columns.device

    @property
    def emitted_width(self) -> int:
        """D, of what all K and V emit together."""
        return len(self.key_columns)

    @cached_property
    def W(self) -> Tensor:  # noqa: N802 (the paper's symbol)
        """(D, d) fp32 on the bank's device: a copy of all weights, gathered when it is first asked for."""
        with torch.inference_mode(False), torch.no_grad():
            return torch.cat([weight_of(linear).to(self.device) for _, linear, _ in self.projections])

    def here(self, tensor: Tensor) -> Tensor:
        """A tensor on the bank's device, in fp32."""
        return tensor.to(self.device, torch.float32)

    def emitted(self, E: Tensor) -> Tensor:
        """What all projections give of encodings E (..., d), without their biases: `E W^T`, (..., D) fp32.

        It is worked out layer by layer, from the weights of each, and W is not gathered for it.
        """
        E = self.here(E)
        with torch.autocast(E.device.type, enabled=False):
            parts = [functional.linear(E, self.here(weight_of(linear))) for _, linear, _ in self.projections]
        return torch.cat(parts, -1)

    def projected(self, states: Tensor) -> Tensor:
        """What the layers read of a text encoder's states (B, n, d_text): behind the caption projection,
        (B, n, d) fp32. Attached or not, it is as the denoiser's own modules do it."""
        with torch.autocast(states.device.type, enabled=False):
            for module in self.projecting:
                states = module(states.to(next(module.parameters()).device))
        return states

    def behind_captions(self) -> AbstractContextManager[None]:
        """A context in which the denoiser takes what comes out behind its caption projection: the states that
        `projected` gives, or packed where the bank is attached."""
        return exchanged((slot, nn.Identity()) for slot, module in self.captions if slot.module is module)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """A context in which the denoiser takes packed (B, n, D) in the place of text.

        Every `to_k` and `to_v` is replaced by a slice of packed, in the projection's dtype. A projection's
        bias, if it has one, is added to the slice, so packed is always `E_perp W^T + G O` alone. Columns
        beyond D reach nobody here (see `residuals_attached`). On leaving the very same modules are back,
        whatever happened inside.

        Raises PerfError where a composition is attached already, or a projection is another than the one
        that the bank was made of: its W would then be of another model.
        """
        kept = _Kept() if self.captions else None
        stand_ins: list[tuple[ModuleSlot, nn.Module]] = []
        if kept is not None:
            stand_ins.append((self.captions[0][0], _CaptionStandIn(kept, self.width)))
            stand_ins += [(slot, nn.Identity()) for slot, _ in self.captions[1:]]
        for layer, pair in zip(self.layers, zip(*[iter(self.projections)] * 2, strict=True), strict=True):
            for slot, linear, columns in pair:
                if _plain(slot, layer.path) is not linear:
                    raise PerfError(
                        f"`{slot.name}` was exchanged since the base was loaded",
                        where=layer.path,
                        hint="wrap the pipeline again",
                    )
                stand_ins.append((slot, _Slice(columns, linear, kept, self.emitted_width)))
        try:
            with exchanged(stand_ins):
                yield
        finally:
            # The layer may have been offloaded meanwhile, or fetched.
            for slot, linear, _ in self.projections:
                attention: Any = slot.owner
                place = attention.to_q.weight.device
                if linear.weight.device != place:
                    linear.to(place)


def _in_fp32(module: nn.Module) -> nn.Module:
    if all(parameter.dtype == torch.float32 for parameter in module.parameters()):
        return module
    return plain_copy(module).float()


@dataclass(eq=False)
class _Kept:
    """What went to the caption projection, for the layers behind it."""

    packed: Tensor | None = None


class _CaptionStandIn(nn.Module):
    """Stands in for a caption projection: keeps packed aside, and passes nothing of the usual width on.

    What lies between it and the layers may cut its input to their width, or look at its shape.
    """

    def __init__(self, kept: _Kept, width: int) -> None:
        super().__init__()
        self.kept, self.width = kept, width

    def forward(self, packed: Tensor) -> Tensor:
        """packed: (B, n, D or more). Returns (B, n, d) zeros."""
        self.kept.packed = packed
        return packed.new_zeros(*packed.shape[:-1], self.width)


class _Slice(nn.Module):
    """Stands in for one projection: its columns of packed, in the projection's dtype, plus its bias."""

    def __init__(self, columns: slice, projection: nn.Linear, kept: _Kept | None, width: int) -> None:
        super().__init__()
        self.columns = columns
        self.width = width  # D, of packed
        self.dtype = computes_in(projection)
        # Not registered as a parameter: it belongs to the projection that will be back.
        self._bias = [projection.bias] if projection.bias is not None else []
        self._kept = kept

    def forward(self, context: Tensor) -> Tensor:
        """context: (B, n, D or more), packed, or what stands in for it behind a caption projection.

        Returns (B, n, width of this projection).
        """
        packed = self.packed(context)
        kind = packed.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.dtype
        part = packed[..., self.columns]
        for bias in self._bias:
            part = part + bias.to(part.device)
        return part.to(dtype)

    def marks(self, context: Tensor, count: int) -> Tensor:
        """The first `count` columns (B, n, count) that stand beside packed in what `forward` takes."""
        return self.packed(context)[..., self.width : self.width + count]

    def packed(self, context: Tensor) -> Tensor:
        """All columns (B, n, D or more) of what `forward` takes. Raises PerfError for text that is not
        packed."""
        packed = context if self._kept is None else self._kept.packed
        assert packed is not None
        if packed.shape[-1] < self.width:
            raise PerfError(
                "a composition is attached to this model, and what it was called with is another prompt",
                hint="inside `composed` call the pipeline with what it gave, `pipe(**call)`; "
                "draw other prompts outside",
            )
        if self._kept is None:
            return packed
        if packed.shape[:-1] != context.shape[:-1]:
            raise ValueError(f"text of shape {packed.shape[:-1]} became {context.shape[:-1]} on its way")
        return packed


def _plain(slot: ModuleSlot, path: str) -> nn.Linear:
    """The projection in a slot of the layer at `path`."""
    projection = slot.module
    if isinstance(projection, _Slice):
        raise PerfError(
            "a composition is attached to this model already",
            where=path,
            hint="leave its context first, or put all concepts into one prompt",
        )
    if not is_plain(projection):
        raise PerfError(
            f"`{slot.name}` is a {type(projection).__name__}, not a plain linear layer",
            where=path,
            hint="merge adapters first: `pipe.fuse_lora()`, then `pipe.unload_lora_weights()`",
        )
    plain: nn.Linear = projection
    return plain
