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
from perfusion_registry.base.quantised import is_plain, weight_of
from perfusion_registry.base.stand_ins import CaptionStandIn, Kept, PackedProjection, StandIn, ThinProjection
from perfusion_registry.base.thin import Thin
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
    projections: tuple[tuple[ModuleSlot, Any, slice], ...]
    width: int
    captions: tuple[tuple[ModuleSlot, nn.Module], ...] = ()
    projecting: tuple[nn.Module, ...] = ()

    @classmethod
    def of(cls, attentions: Sequence[CrossAttention], captions: Sequence[ModuleSlot] = ()) -> Bank:
        """The bank of these layers, in this order, their weights unchanged.

        Raises PerfError when there are none, when a projection is no linear layer of any kind, and when a
        composition is attached to them already.
        """
        if not attentions:
            raise PerfError("this model has no text cross-attention that could be edited")
        keys: list[Tensor] = []
        layers: list[BankLayer] = []
        projections: list[tuple[ModuleSlot, Any, slice]] = []
        start = 0
        for attention in attentions:
            places = [ModuleSlot(attention.module, name) for name in ("to_k", "to_v")]
            key, value = (_projection(place, attention.path) for place in places)
            middle = start + key.out_features
            end = middle + value.out_features
            layers.append(BankLayer(attention.path, slice(start, middle), slice(middle, end)))
            projections += [(places[0], key, slice(start, middle)), (places[1], value, slice(middle, end))]
            keys += [
                torch.ones(middle - start, dtype=torch.bool),
                torch.zeros(end - middle, dtype=torch.bool),
            ]
            start = end
        widths = {projection.in_features for _, projection, _ in projections}
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
        """(D, d) fp32 on the bank's device: a copy of all weights, gathered when it is first asked for.

        Raises PerfError where a projection is not plain.
        """
        self.require_plain()
        with torch.inference_mode(False), torch.no_grad():
            return torch.cat([weight_of(linear).to(self.device) for _, linear, _ in self.projections])

    @property
    def is_plain(self) -> bool:
        """Whether the weight of each projection is all of it."""
        return all(is_plain(projection) for _, projection, _ in self.projections)

    def require_plain(self) -> None:
        """Raise PerfError where a projection is not a plain linear layer (a LoRA that is not merged, a layer
        that is quantised otherwise than by GGUF), because its weight is then not all of it."""
        for layer, pair in zip(self.layers, self._pairs(), strict=True):
            for slot, projection, _ in pair:
                if not is_plain(projection):
                    raise _not_plain(slot, layer.path, f"{_MERGE}, or draw in the thin form")

    def columns(self, thin: Thin | None = None) -> int:
        """How many columns an edit has, in either form and without marks: what stands behind it is counted
        from here."""
        return self.emitted_width if thin is None else thin.columns(self.width)

    def here(self, tensor: Tensor) -> Tensor:
        """A tensor on the bank's device, in fp32."""
        return tensor.to(self.device, torch.float32)

    def emitted(self, E: Tensor) -> Tensor:
        """What all projections give of encodings E (..., d), without their biases: `E W^T`, (..., D) fp32.

        It is worked out layer by layer, from the weights of each, and W is not gathered for it. What is no
        plain layer is asked itself, in its own format.
        """
        E = self.here(E)
        with torch.autocast(E.device.type, enabled=False), torch.no_grad():
            parts = [
                functional.linear(E, self.here(weight_of(one)))
                if is_plain(one)
                else self.here(_emitted(one, E))
                for _, one, _ in self.projections
            ]
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
    def attached(self, thin: Thin | None = None) -> Iterator[None]:
        """A context in which the denoiser takes packed (B, n, D) in the place of text, or the thin form.

        Packed: every `to_k` and `to_v` is replaced by a slice of it, in the projection's dtype. A
        projection's bias, if it has one, is added to the slice, so packed is always `E_perp W^T + G O` alone.
        thin: what projections add in the thin form, (B, n, `thin.columns(d)`); each stays where it is, within
        what stands in for it. Columns beyond reach nobody here (see `residuals_attached`). On leaving the
        very same modules are back, whatever happened inside.

        Raises PerfError where a composition is attached already, a projection is another than the one
        that the bank was made of, whose o* would be of another model, and, for packed, where one is not
        plain.
        """
        if thin is None:
            self.require_plain()
        kept = Kept() if self.captions else None
        stand_ins: list[tuple[ModuleSlot, nn.Module]] = []
        if kept is not None:
            stand_ins.append((self.captions[0][0], CaptionStandIn(kept, self.width)))
            stand_ins += [(slot, nn.Identity()) for slot, _ in self.captions[1:]]
        for layer, pair in zip(self.layers, self._pairs(), strict=True):
            for slot, projection, columns in pair:
                if _projection(slot, layer.path) is not projection:
                    raise PerfError(
                        f"`{slot.name}` was exchanged since the base was loaded",
                        where=layer.path,
                        hint="wrap the pipeline again",
                    )
                stand_in: StandIn
                if thin is None:
                    stand_in = PackedProjection(projection, columns, self.emitted_width, kept)
                else:
                    path, keys = f"{layer.path}.{slot.name}", columns == layer.key_slice
                    stand_in = ThinProjection(projection, path, thin, columns, keys, self.width, kept)
                stand_ins.append((slot, stand_in))
        try:
            with exchanged(stand_ins):
                yield
        finally:
            # The layer may have been offloaded meanwhile, or fetched.
            for slot, linear, _ in self.projections if thin is None else ():
                attention: Any = slot.owner
                place = attention.to_q.weight.device
                if linear.weight.device != place:
                    linear.to(place)

    def _pairs(self) -> Iterator[tuple[tuple[ModuleSlot, Any, slice], ...]]:
        """The projections of each layer, of its keys and of its values."""
        return zip(*[iter(self.projections)] * 2, strict=True)


def _in_fp32(module: nn.Module) -> nn.Module:
    if all(parameter.dtype == torch.float32 for parameter in module.parameters()):
        return module
    return plain_copy(module).float()


def _projection(slot: ModuleSlot, path: str) -> Any:
    """The linear layer in a slot of the layer at `path`, of whatever kind."""
    projection = slot.module
    if isinstance(projection, StandIn):
        raise PerfError(
            "a composition is attached to this model already",
            where=path,
            hint="leave its context first, or put all concepts into one prompt",
        )
    if not isinstance(getattr(projection, "out_features", None), int):
        raise _not_plain(slot, path, _MERGE)
    return projection


_MERGE = "merge adapters first, by `pipe.fuse_lora()` and then `pipe.unload_lora_weights()`"


def _not_plain(slot: ModuleSlot, path: str, hint: str) -> PerfError:
    kind = type(slot.module)
    what = f"{kind.__name__} of {kind.__module__.partition('.')[0]}"
    return PerfError(f"`{slot.name}` is a {what}, not a plain linear layer", where=path, hint=hint)


def _emitted(projection: Any, E: Tensor) -> Tensor:
    """What any projection makes of encodings (..., d), without its bias, where and as it computes; what keeps
    integers is given fp32."""
    own = next(projection.parameters())
    dtype = own.dtype if own.is_floating_point() else torch.float32
    out: Tensor = projection(E.to(own.device, dtype).reshape(-1, E.shape[-1]))
    if getattr(projection, "bias", None) is not None:
        out = out.float() - projection.bias.float()
    return out.reshape(*E.shape[:-1], -1)
