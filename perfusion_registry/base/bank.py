"""The bank: the K and V projections of every cross-attention layer, stacked into one matrix."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class BankLayer:
    """One cross-attention layer's place in the bank.

    path: of its attn2 within the UNet. key_slice, value_slice: its rows of W, its columns of `packed`.
    """

    path: str
    key_slice: slice
    value_slice: slice


@dataclass(frozen=True)
class Bank:
    """Every attn2's `to_k` and `to_v` of a UNet as one matrix (DESIGN section 3).

    W: (D, d) fp32 on the UNet's device; rows are layer by layer, K before V, layers in the order of execution.
    layers: where each layer lies in it. key_columns: (D,) bool, true for the rows of keys.
    """

    W: Tensor
    layers: tuple[BankLayer, ...]
    key_columns: Tensor

    @classmethod
    def of(cls, unet: torch.nn.Module) -> Bank:
        """Gather the bank of a UNet. Raises PerfError when a projection is not a plain linear layer."""
        raise NotImplementedError

    def attached(self, unet: torch.nn.Module) -> AbstractContextManager[Any]:
        """A context in which `unet` takes packed (B, n, D) as its encoder hidden states.

        Every attn2's `to_k` and `to_v` is replaced by a slice; on exit the very same modules are back, whatever
        happens inside.
        """
        raise NotImplementedError
