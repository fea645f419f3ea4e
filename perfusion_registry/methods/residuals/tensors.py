"""A residual in a file: for each transformer block of the denoiser, A and B.

| tensor | meaning | shape | type |
|---|---|---|---|
| `residual_down.<block path>` | A of a transformer block's residual | (r, m) | fp16 |
| `residual_up.<block path>` | B of it | (m', r) | fp16 |

Residuals of other modules are as `methods.low_rank` has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.interface import PATH, TensorRule
from perfusion_registry.methods.low_rank import are_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.base import Base

DOWN = "residual_down."
UP = "residual_up."
RULE = TensorRule(rf"residual_(down|up)\.{PATH}", dimensions=2, half=True)


def residual_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """A (r, m) and B (m', r) of each transformer block, by its path; empty where there is no residual."""
    return {
        key[len(DOWN) :]: (value, tensors[UP + key[len(DOWN) :]])
        for key, value in tensors.items()
        if key.startswith(DOWN)
    }


def residual_tensors(residual: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """The way back: A and B of each transformer block by their names in a file."""
    named = {}
    for path, (down, up) in residual.items():
        named[DOWN + path], named[UP + path] = down, up
    return named


def kept_residual(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What an artifact keeps of the residual in a training's state: its factors in fp16, by name."""
    return {name: factor.half() for name, factor in residual_tensors(residual_of(state)).items()}


def require_blocks(base: Base, name: str, hint: str) -> None:
    """Raise PerfError where a base has no transformer blocks that the concept `name` could learn one for."""
    if not base.residual_blocks:
        raise PerfError(
            f"this base has no transformer blocks that {name!r} could learn a residual for", hint=hint
        )


def have_inputs(base: Base) -> bool:
    """Whether all transformer blocks of a base have an input projection, `proj_in`."""
    from perfusion_registry.base import module_at

    return all(module_at(base.denoiser, f"{one.path}.proj_in") is not None for one in base.residual_blocks)


def is_whole(tensors: Mapping[str, Tensor], *, learned: bool) -> bool:
    """Whether every A has its B and of equal rank, and there are some just where one was `learned`."""
    down, up = (
        {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
        for prefix in (DOWN, UP)
    )
    return are_pairs(down, up) and bool(down) == learned
