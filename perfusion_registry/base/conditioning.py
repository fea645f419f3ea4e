"""Conditioning: what the text side of a base hands to its denoiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from perfusion_registry.base.forms import Form
    from perfusion_registry.base.thin import Thin

Rows = Tensor | Sequence[Tensor | None]
"""Token embeddings of a concept piece: (d_token,), (v, d_token) of one of v tokens, or one by one, where None
is a token's own."""
Embeddings = Mapping[tuple[int, int], Sequence[Rows]]
"""Token embeddings to use in the place of the tokens' own: for (prompt, concept piece of it) those of each
text encoder."""


Held = TypeVar("Held", bound=Rows)


class InPooledToo(tuple[Held, ...], Generic[Held]):
    """Embeddings of each text encoder that a prompt's pooled vector is made with too, where it has one. That
    has the supercategory in the place of any others."""

    __slots__ = ()


@dataclass(frozen=True, eq=False)
class Conditioning:
    """Prompts as the denoiser takes them.

    states: (B, n, d) fp32, what K and V read, behind the caption projection where there is one; of a base
    that has a composition attached (B, n, D + J) instead (see `Bank`). mask: (B, n) bool, true where there is
    text, and false at padding, which no edit changes; denoisers that take a mask do not look there. None: the
    base reads padding as text. pooled: (B, p) fp32, the
    prompt as one vector, for denoisers that take one; else None. sizes: (B, 6) fp32, how each picture was
    cropped (`build.framing.sizes_of`), for denoisers that are told of it; None for whole pictures. thin: what
    the denoiser's projections add to states in the thin form, (B, n, `thin.columns(d)` or more); None where
    states are in no such form.
    """

    states: Tensor
    mask: Tensor | None = None
    pooled: Tensor | None = None
    sizes: Tensor | None = None
    thin: Thin | None = None

    def __len__(self) -> int:
        return len(self.states)

    @property
    def form(self) -> Form:
        """Of an edit, if there is one."""
        return "packed" if self.thin is None else "thin"

    def with_states(self, states: Tensor) -> Conditioning:
        """The same prompts with other states (B, n, ...)."""
        return replace(self, states=states)

    def with_sizes(self, sizes: Tensor) -> Conditioning:
        """The same prompts for pictures of these sizes (B, 6)."""
        return replace(self, sizes=sizes)

    def to(self, device: torch.device) -> Conditioning:
        """The same prompts on a device."""
        return self._each(lambda tensor: tensor.to(device))

    def rows(self, index: Tensor | Sequence[int] | slice) -> Conditioning:
        """The prompts at `index`, in its order."""
        return self._each(lambda tensor: tensor[index])

    def repeated(self, count: int) -> Conditioning:
        """All prompts `count` times, one after the other."""
        return self._each(lambda tensor: tensor.repeat(count, *[1] * (tensor.ndim - 1)))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        mask, pooled, sizes = (None if x is None else change(x) for x in (self.mask, self.pooled, self.sizes))
        return Conditioning(change(self.states), mask, pooled, sizes, self.thin)

    @staticmethod
    def joined(parts: Sequence[Conditioning]) -> Conditioning:
        """The prompts of all of them, in their order; all have a mask or none, and so for the others, and all
        are in one form."""

        def together(tensors: Sequence[Tensor | None]) -> Tensor | None:
            there = [tensor for tensor in tensors if tensor is not None]
            return torch.cat(there) if there else None

        if any(part.thin is not parts[0].thin for part in parts):
            raise ValueError("prompts in the thin form of different edits cannot be joined")
        return Conditioning(
            torch.cat([part.states for part in parts]),
            together([part.mask for part in parts]),
            together([part.pooled for part in parts]),
            together([part.sizes for part in parts]),
            parts[0].thin,
        )
