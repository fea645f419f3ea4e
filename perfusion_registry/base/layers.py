"""Where text meets pictures in a denoiser: its cross-attention layers, and modules that can be exchanged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, eq=False)
class CrossAttention:
    """A layer whose keys and values are made of text.

    path: of the layer within the denoiser; artifacts call its outputs by it. module: a diffusers `Attention`,
    with `to_q`, `to_k`, `to_v`, `heads`, a `processor`, and perhaps `norm_q` and `norm_k` behind the
    projections.
    """

    path: str
    module: Any


@dataclass(frozen=True, eq=False)
class ModuleSlot:
    """The place of a module in another one."""

    owner: nn.Module
    name: str

    @property
    def module(self) -> Any:
        """What is there now."""
        return getattr(self.owner, self.name)

    @classmethod
    def at(cls, model: nn.Module, path: str) -> ModuleSlot:
        """That of the module at `path` of a model."""
        parent, _, name = path.rpartition(".")
        return cls(model.get_submodule(parent), name)


@dataclass(frozen=True, eq=False)
class ResidualBlock:
    """A transformer block, to whose output projection personalised residuals are added.

    path: artifacts call its residual by it. projection: the place of the output projection, a linear layer or
    a 1 x 1 convolution. layers: the paths of the block's own cross-attention layers.
    """

    path: str
    projection: ModuleSlot
    layers: tuple[str, ...]


@contextmanager
def exchanged(stand_ins: Iterable[tuple[ModuleSlot, nn.Module]]) -> Iterator[None]:
    """A context with other modules in these places; on leaving, the very same ones are back."""
    before: list[tuple[ModuleSlot, nn.Module]] = []
    try:
        for slot, stand_in in stand_ins:
            before.append((slot, slot.module))
            setattr(slot.owner, slot.name, stand_in)
        yield
    finally:
        for slot, module in reversed(before):
            setattr(slot.owner, slot.name, module)
