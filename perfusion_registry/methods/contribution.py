"""What a concept brings to a prompt that calls it, by its method: token embeddings, a part of Eq. 4, and
additions to the denoiser."""

# ruff: noqa: E741 (I and O are the paper's symbols)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from perfusion_registry.base import Changes, Factors, Mask


@dataclass(frozen=True, eq=False)
class Target:
    """A part of Eq. 4.

    i, v: (d,), the target input and its dual. o: (D,), the target output in bank order. bias, temperature: of
    the gate. trained: the bias and temperature that it was trained with. plain_keys: whether the keys of the
    whole prompt are those of the prompt with the supercategory in the concept's place (a global lock).
    """

    i: Tensor
    v: Tensor
    o: Tensor
    bias: float
    temperature: float
    trained: tuple[float, float]
    plain_keys: bool = False


@dataclass(frozen=True, eq=False)
class Adapters:
    """What a concept changes of single modules of the base.

    denoiser: by path, K and V of cross-attention among them. text: of the text encoders, by component and
    path. strength, text_strength: of the one and the other. gated: K and V have it at the tokens of its calls
    alone, which the changed text encoder alone encodes, and these tokens have the keys of the supercategory.
    localised: the rest of the denoiser has it where the concept is.
    """

    denoiser: Changes
    text: Mapping[str, Changes]
    strength: float = 1.0
    text_strength: float = 1.0
    gated: bool = False
    localised: bool = False


@dataclass(frozen=True, eq=False)
class Merge:
    """What keys and values are merged by: the encodings (T, d) of a concept's words, and their duals."""

    inputs: Tensor
    duals: Tensor


@dataclass(frozen=True, eq=False)
class Contribution:
    """What one concept brings.

    embeddings: (d_token,) of each text encoder, or (v, d_token), in the place of its call; none leaves the
    supercategory's own. target: its part of Eq. 4. factors: what it adds to the denoiser's blocks where its
    call is attended to, A (r, m) and B (m', r) by block path, `strength` times and within its mask. adapters:
    what it changes of the base. words: of each learned word in its phrase (v, d_token) of each text encoder.
    merge: where its adapters, of K and V, are merged with those of others.
    """

    embeddings: tuple[Tensor, ...] = ()
    target: Target | None = None
    factors: Factors = field(default_factory=dict)
    strength: float = 1.0
    mask: Mask = "ramp"
    adapters: Adapters | None = None
    words: tuple[tuple[Tensor, ...], ...] = ()
    merge: Merge | None = None

    @property
    def acts(self) -> bool:
        """Whether it brings anything at all."""
        return bool(self.embeddings or self.factors or self.adapters) or self.target is not None

    @property
    def gated(self) -> bool:
        """Whether it has adapters that act at the tokens of its calls alone."""
        return self.adapters is not None and self.adapters.gated

    @property
    def plain_keys(self) -> bool:
        """Whether the keys of the whole prompt are those of the prompt with the supercategory in the
        concept's place."""
        return self.gated or (self.target is not None and self.target.plain_keys)


@dataclass(frozen=True)
class Targets:
    """The parts of Eq. 4 of a composition's concepts, in its order.

    names: of the J concepts. I, V: (J, d) target inputs and their duals. O: (J, D) target outputs in bank
    order. bias, temperature: (J,).
    """

    names: tuple[str, ...]
    I: Tensor
    V: Tensor
    O: Tensor
    bias: Tensor
    temperature: Tensor

    def only(self, chosen: Sequence[int]) -> Targets:
        """Return those of the `chosen` concepts."""
        j = torch.tensor(list(chosen), dtype=torch.long, device=self.I.device)
        names = tuple(self.names[index] for index in chosen)
        return Targets(names, self.I[j], self.V[j], self.O[j], self.bias[j], self.temperature[j])


def vector(tensors: Mapping[str, Tensor], key: str, width: int, name: str) -> Tensor:
    """One vector (width,) of the concept `name` in fp32. Raises PerfError when it does not fit the base."""
    tensor = tensors.get(key)
    if tensor is None or tensor.shape != (width,):
        problem = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}"
        raise PerfError(
            f"the artifact of {name!r} does not fit this base: {key} {problem}, and ({width},) is needed",
            hint=f"build it for this base: `perf build {name}`",
        )
    return tensor.float()
