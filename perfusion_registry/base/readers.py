"""Networks beside the denoiser that read the same prompt, such as a ControlNet: concepts leave them alone.

A pipeline hands its text to them as it does to the denoiser, so while a composition is attached they get
packed too. Nothing of them is learned by a concept: they read the prompt with each supercategory in its
concept's place, which travels as the last d columns of what the denoiser takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from perfusion_registry.base.conditioning import Conditioning
from perfusion_registry.base.layers import CrossAttention, ModuleSlot, exchanged
from perfusion_registry.errors import PerfError


@dataclass(frozen=True, eq=False)
class Reader:
    """A network that reads the prompt, and its layers that do."""

    network: nn.Module
    attentions: Sequence[CrossAttention]


def beside(packed: Conditioning, plain: Conditioning) -> Conditioning:
    """Packed with what readers get. packed: B prompts, (B, n, D or more). plain: the same prompts without
    concepts, (B, n, d). Returns (B, n, D or more + d), packed's mask and pooled vector."""
    return packed.with_states(torch.cat([packed.states, plain.states.to(packed.states)], -1))


@contextmanager
def readers_attached(readers: Sequence[Reader], packed: int, width: int) -> Iterator[None]:
    """A context in which readers take what `beside` gives, and read its last columns.

    packed: D. width: d. On leaving the very same modules are back. Whatever a projection is, such as one with
    an adapter, it projects as it always does.
    """
    stand_ins = []
    for reader in readers:
        for attention in reader.attentions:
            for name in ("to_k", "to_v"):
                slot = ModuleSlot(attention.module, name)
                stand_ins.append((slot, _LastColumns(slot.module, packed, width)))
    with exchanged(stand_ins):
        yield


class _LastColumns(nn.Module):
    """Stands in for one projection of a reader: it projects the last d columns of its input."""

    def __init__(self, projection: nn.Module, packed: int, width: int) -> None:
        super().__init__()
        self.projection = projection  # which goes where the network goes
        self._least, self._width = packed + width, width

    def forward(self, context: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """context: (B, n, D or more + d). Returns (B, n, width of this projection)."""
        if context.shape[-1] < self._least:
            raise PerfError(
                "a composition is attached, and the ControlNet was called with another prompt",
                hint="inside `composed` call the pipeline with what it gave, `pipe(**call)`; "
                "draw other prompts outside",
            )
        out: Tensor = self.projection(context[..., -self._width :], *args, **kwargs)
        return out
