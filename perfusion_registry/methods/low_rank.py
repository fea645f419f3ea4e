"""Low-rank changes of single modules of the denoiser, while they are learned and in an artifact.

| tensor | meaning | shape | type |
|---|---|---|---|
| `denoiser.<module>.lora_down` | A, of a convolution of one place too | (r, m) | fp16 |
| `denoiser.<module>.lora_up` | B | (m', r) | fp16 |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from perfusion_registry.methods.interface import PATH, TensorRule

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.base import Base, Changes, Conditioning

PREFIX, DOWN, UP = "denoiser.", ".lora_down", ".lora_up"
RULE = TensorRule(rf"denoiser\.{PATH}\.lora_(down|up)", dimensions=2, half=True)


def factor_tensors(factors: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """A and B of each module, by their names."""
    named = {}
    for path, (down, up) in factors.items():
        named[f"{PREFIX}{path}{DOWN}"], named[f"{PREFIX}{path}{UP}"] = down, up
    return named


def changes_in(tensors: Mapping[str, Tensor]) -> Changes:
    """The way back: what the factors among these tensors change, by module."""
    from perfusion_registry.base import Change

    return {
        key[len(PREFIX) : -len(DOWN)]: Change(down=value, up=tensors[key.removesuffix(DOWN) + UP])
        for key, value in tensors.items()
        if key.startswith(PREFIX) and key.endswith(DOWN)
    }


def module_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of single modules of the denoiser."""
    return {name: tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}


def kept_factors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What an artifact keeps of the factors in a training's state."""
    return {name: factor.half() for name, factor in module_tensors(state).items()}


def key_and_value_widths(base: Base) -> dict[str, tuple[int, int]]:
    """What K and V of each cross-attention layer write and read, (m', d), by path."""
    d = base.bank.width
    return {
        f"{layer.path}.{name}": (rows.stop - rows.start, d)
        for layer in base.bank.layers
        for name, rows in (("to_k", layer.key_slice), ("to_v", layer.value_slice))
    }


def packed(base: Base, prompts: Conditioning, changes: Changes) -> Conditioning:
    """What the K and V projections make of encoded prompts (B, n, d) with their changes: `E (W + B A)^T`,
    (B, n, D). Gradients flow to all."""
    import torch

    E = prompts.states
    h = E @ base.bank.W.T
    widths = key_and_value_widths(base)
    if not widths.keys() & changes.keys():
        return prompts.with_states(h)
    # Split and joined once: each assignment to a slice would copy the whole gradient on the way back.
    parts = h.split([out for out, _ in widths.values()], -1)
    changed = [
        part + changes[path].on(E).near(E).linear(E) if path in changes else part
        for path, part in zip(widths, parts, strict=True)
    ]
    return prompts.with_states(torch.cat(changed, -1))


def beside_text(base: Base, changes: Changes) -> Changes:
    """The changes of modules that do not read text, which the denoiser has itself."""
    text = key_and_value_widths(base)
    return {path: change for path, change in changes.items() if path not in text}


def is_whole(tensors: Mapping[str, Tensor], *, learned: bool) -> bool:
    """Whether every A has its B and of equal rank, and there are some just where they were `learned`."""
    own = module_tensors(tensors)
    down, up = ({key.removesuffix(end): own[key] for key in own if key.endswith(end)} for end in (DOWN, UP))
    return are_pairs(down, up) and bool(down) == learned


def are_pairs(down: Mapping[str, Tensor], up: Mapping[str, Tensor]) -> bool:
    """Whether every A (r, m) has its B (m', r), by their module."""
    ranks = {key: len(value) for key, value in down.items()}
    return ranks == {key: value.shape[1] for key, value in up.items()}
