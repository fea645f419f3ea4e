"""The bank: the K and V projections of every cross-attention layer, stacked into one matrix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from perfusion_registry.base.family import layer_order
from perfusion_registry.errors import PerfError

SUITABLE = "use a base like Stable Diffusion 1.x or 2.x"


@dataclass(frozen=True)
class BankLayer:
    """One cross-attention layer's place in the bank.

    path: of its attn2 within the UNet. key_slice, value_slice: its rows of W, its columns of `packed`.
    """

    path: str
    key_slice: slice
    value_slice: slice


@dataclass(frozen=True, eq=False)
class Bank:
    """Every attn2's `to_k` and `to_v` of a UNet as one matrix (DESIGN section 3).

    W: (D, d) fp32 on the UNet's device; rows are layer by layer, K before V, in the order of execution.
    layers: where each layer lies in it. key_columns: (D,) bool, true for the rows of keys.
    """

    W: Tensor
    layers: tuple[BankLayer, ...]
    key_columns: Tensor

    @classmethod
    def of(cls, unet: nn.Module) -> Bank:
        """Gather the bank of a UNet, its weights unchanged.

        Raises PerfError when the UNet has no text cross-attention, or a projection is not a plain linear
        layer (a LoRA that is not merged, a quantised layer), because its weight is then not all of it.
        """
        rows: list[Tensor] = []
        keys: list[Tensor] = []
        layers: list[BankLayer] = []
        start = 0
        for path, attention in cross_attentions(unet):
            weights = [_plain_weight(attention, name, path) for name in ("to_k", "to_v")]
            middle = start + weights[0].shape[0]
            end = middle + weights[1].shape[0]
            layers.append(BankLayer(path, slice(start, middle), slice(middle, end)))
            rows += weights
            keys += [
                torch.ones(middle - start, dtype=torch.bool),
                torch.zeros(end - middle, dtype=torch.bool),
            ]
            start = end
        widths = {weight.shape[1] for weight in rows}
        if len(widths) != 1:
            found = ", ".join(str(width) for width in sorted(widths))
            raise PerfError(f"the cross-attention layers of this UNet read inputs of several widths: {found}")
        return cls(torch.cat(rows), tuple(layers), torch.cat(keys).to(rows[0].device))

    @contextmanager
    def attached(self, unet: nn.Module) -> Iterator[None]:
        """A context in which `unet` takes packed (B, n, D) as its encoder hidden states.

        Every attn2's `to_k` and `to_v` is replaced by a slice of packed, in the UNet's dtype. A projection's
        bias, if it has one, is added to the slice, so packed is always `E_perp W^T + G O` alone. On exit the
        very same modules are back, whatever happened inside. `unet` may be another one than the bank was
        made of, as long as its layers are the same.
        """
        swaps: list[tuple[nn.Module, str, nn.Module, nn.Module]] = []
        attentions = dict(cross_attentions(unet))
        if set(attentions) != {layer.path for layer in self.layers}:
            raise PerfError("this UNet's cross-attention layers are not those of the bank")
        for layer in self.layers:
            attention = attentions[layer.path]
            for name, columns in (("to_k", layer.key_slice), ("to_v", layer.value_slice)):
                projection = getattr(attention, name)
                weight = _plain_weight(attention, name, layer.path, copy=False)
                if weight.shape != (columns.stop - columns.start, self.W.shape[1]):
                    raise PerfError(f"{layer.path}.{name} of this UNet has another shape than in the bank")
                swaps.append((attention, name, projection, _Slice(columns, projection)))
        try:
            for attention, name, _, replacement in swaps:
                setattr(attention, name, replacement)
            yield
        finally:
            for attention, name, projection, _ in swaps:
                setattr(attention, name, projection)


class _Slice(nn.Module):
    """Stands in for one projection: its columns of packed, in the projection's dtype, plus its bias."""

    def __init__(self, columns: slice, projection: nn.Linear) -> None:
        super().__init__()
        self.columns = columns
        self.dtype = projection.weight.dtype
        # Not registered as a parameter: it belongs to the projection that will be back.
        self._bias = [projection.bias] if projection.bias is not None else []

    def forward(self, packed: Tensor) -> Tensor:
        """packed: (B, n, D). Returns (B, n, width of this projection)."""
        kind = packed.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.dtype
        part = packed[..., self.columns]
        for bias in self._bias:
            part = part + bias
        return part.to(dtype)


def cross_attentions(unet: nn.Module) -> list[tuple[str, Any]]:
    """Every attn2 with its path, sorted by path with numbers as numbers: down, mid, up, as they run."""
    found = [
        (path, module)
        for path, module in unet.named_modules()
        if path.rpartition(".")[2] == "attn2" and hasattr(module, "to_k") and hasattr(module, "to_v")
    ]
    config = getattr(unet, "config", {})
    if not found:
        raise PerfError("this model has no text cross-attention that could be edited", hint=SUITABLE)
    if config.get("encoder_hid_dim_type") is not None:
        raise PerfError("this UNet projects its text encodings before the cross-attention", hint=SUITABLE)
    for path, attention in found:
        if getattr(attention, "norm_cross", None):
            raise PerfError(
                "this UNet normalises its text encodings in each layer", where=path, hint=SUITABLE
            )
        if getattr(attention, "fused_projections", False):
            raise PerfError(
                "this UNet's attention projections are fused",
                where=path,
                hint="call unfuse_qkv_projections() first",
            )
    return sorted(found, key=lambda item: layer_order(item[0]))


def _plain_weight(attention: Any, name: str, path: str, copy: bool = True) -> Tensor:
    """The weight of a projection; a detached fp32 copy if `copy`."""
    projection = getattr(attention, name)
    if type(projection) is not nn.Linear:
        raise PerfError(
            f"{name} is a {type(projection).__name__}, not a plain linear layer",
            where=path,
            hint="merge adapters first: `pipe.fuse_lora()`, then `pipe.unload_lora_weights()`",
        )
    weight: Tensor = projection.weight
    return weight.detach().to(torch.float32, copy=True) if copy else weight
