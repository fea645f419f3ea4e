"""Adapters of a composition's concepts: in the text encoders, in keys and values, and in the denoiser."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from perfusion_registry import edit
from perfusion_registry.base import Adaptation, Applied, Changes, Conditioning
from perfusion_registry.methods.contribution import Adapters, Contribution, Targets

if TYPE_CHECKING:
    from perfusion_registry.base import Base

KEY, VALUE = "to_k", "to_v"

Brought = Mapping[str, Contribution]


def with_adapters(brought: Brought, *, gated: bool) -> dict[str, Adapters]:
    """The adapters whose text side is gated, or is not, by concept."""
    return {
        name: one.adapters
        for name, one in brought.items()
        if one.adapters is not None and one.adapters.gated == gated
    }


def text_changes(adapters: Sequence[Adapters]) -> list[tuple[Mapping[str, Changes], float]]:
    """What `Base.text_changed` takes."""
    return [(one.text, one.text_strength) for one in adapters]


def encoded_gated(
    base: Base,
    brought: Brought,
    plain: Conditioning,
    positions: Sequence[Mapping[str, Sequence[int]]],
    encode: Callable[[], Conditioning],
) -> Conditioning:
    """Prompts in which each gated concept's tokens are as its own text encoder has them.

    plain: B prompts with the supercategories in these concepts' places, lined up with their own words.
    positions: of each prompt, the tokens of each concept's calls. encode: encodes the prompts with the
    concepts' own words.
    """
    states = plain.states.clone()
    common = text_changes([*with_adapters(brought, gated=False).values()])
    for name, adapters in with_adapters(brought, gated=True).items():
        with base.text_changed([*common, *text_changes([adapters])]):
            own = encode().states
        for row, places in enumerate(positions):
            at = list(places.get(name, ()))
            states[row, at] = own[row, at].to(states)
    return replace(plain, states=states)


def add_changes(
    base: Base,
    h: Tensor,
    brought: Brought,
    positions: Sequence[Mapping[str, Sequence[int]]],
    values: tuple[Tensor, Targets],
    keys: tuple[Tensor, Targets],
) -> None:
    """Add to packed (B, n, D) what adapters change of keys and values: at all tokens, or, gated, of the
    values at the concept's own.

    positions: as in `encoded_gated`. values, keys: what each are made of, E (B, n, d), and the parts of Eq. 4
    whose span is taken out of it first.
    """
    for one in with_adapters(brought, gated=False).values():
        for kind, (E, targets) in ((VALUE, values), (KEY, keys)):
            rest = edit.perpendicular(E, targets.I, targets.V)
            for columns, added in added_columns(base, one, kind, rest):
                h[..., columns] += added
    E, targets = values
    for name, one in with_adapters(brought, gated=True).items():
        for row, places in enumerate(positions):
            at = list(places.get(name, ()))
            if at:
                rest = edit.perpendicular(E[row], targets.I, targets.V)[at]
                for columns, added in added_columns(base, one, VALUE, rest):
                    h[row, at, columns] += added


def added_columns(base: Base, adapters: Adapters, kind: str, E: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """What adapters add to the keys or the values of each layer, made of E (..., d), by its columns."""
    if not adapters.strength:
        return
    for layer in base.bank.layers:
        change = adapters.denoiser.get(f"{layer.path}.{kind}")
        if change is not None:
            columns = layer.key_slice if kind == KEY else layer.value_slice
            yield columns, change.on(E, adapters.strength).linear(E)


def text_side(base: Base) -> set[str]:
    """The paths of what K and V read text by."""
    return {f"{layer.path}.{kind}" for layer in base.bank.layers for kind in (KEY, VALUE)}


def has_region(contribution: Contribution) -> bool:
    """Whether a concept has adapters that act where it is alone."""
    adapters = contribution.adapters
    return adapters is not None and bool(adapters.strength) and adapters.localised


def adaptation(base: Base, brought: Brought, placed: Sequence[str]) -> tuple[Adaptation | None, list[str]]:
    """What the adapters do to the denoiser, and the concepts that regions are found for, in their order.

    placed: the concepts that a prompt calls as things. Where one has a region, all of these have, so that
    each place of the picture is of one of them.
    """
    text = text_side(base)
    shown = {name: one.adapters for name, one in brought.items() if one.adapters and one.adapters.strength}
    if not shown:
        return None, []
    columns = list(placed) if any(has_region(one) for one in brought.values()) else []
    applied = tuple(
        Applied(
            {path: change for path, change in one.denoiser.items() if path not in text},
            one.strength,
            columns.index(name) if one.localised else None,
        )
        for name, one in shown.items()
    )
    return Adaptation(applied, len(columns)), columns
