"""Concepts' adapters in a denoiser: everywhere, or where each concept is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from perfusion_registry.base.changes import Changes, Hook, Ready, everywhere, hooked, learned, module_at
from perfusion_registry.base.layers import CrossAttention
from perfusion_registry.base.quantised import place_of
from perfusion_registry.base.regions import Regions


@dataclass(frozen=True, eq=False)
class Applied:
    """One concept's changes of the denoiser, without those of what K and V read text by.

    concept: its number among the concepts that are marked, in whose region alone it applies; None:
    everywhere. learning: it applies everywhere at strength 1, as it is at each call; gradients flow to it.
    """

    changes: Changes
    strength: float = 1.0
    concept: int | None = None
    learning: bool = False


@dataclass(frozen=True, eq=False)
class Adaptation:
    """What the adapters of a composition do to a denoiser. marked: how many concepts' tokens are marked for
    regions to be found by, in a prompt of its own (`Regions`); none where all apply everywhere."""

    applied: tuple[Applied, ...] = ()
    marked: int = 0


@contextmanager
def adapted(
    denoiser: nn.Module,
    attentions: Sequence[CrossAttention],
    adaptation: Adaptation,
    width: int,
    first: int,
    levels: int,
) -> Iterator[None]:
    """A context in which a denoiser has adapters. Those of one region act in no sample that calls nobody,
    such as the empty prompt of guidance; those without act in all.

    width: of packed with all its marks. first: the column from which on concepts are marked. levels: of
    noise, how many there are.
    """
    hooks: list[tuple[nn.Module, Hook]] = []
    regions = Regions(width, slice(first, first + adaptation.marked), levels)
    for one in adaptation.applied:
        if one.learning:
            hooks += learned(denoiser, one.changes)
        elif one.concept is None:
            hooks += everywhere(denoiser, one.changes, one.strength)
        else:
            hooks += _within(denoiser, one, regions, one.concept)
    if not adaptation.marked:
        with hooked(hooks):
            yield
        return
    with regions.attached(denoiser, attentions), hooked(hooks):
        yield


def _within(
    denoiser: nn.Module, one: Applied, regions: Regions, concept: int
) -> Iterator[tuple[nn.Module, Hook]]:
    """The hooks of changes that apply in a concept's region; a module that gives no places is left alone."""
    for path, change in one.changes.items():
        module = module_at(denoiser, path)
        assert module is not None
        ready = Ready(change.on(place_of(module), one.strength))

        def add(module: nn.Module, inputs: Any, output: Tensor, ready: Ready = ready) -> Tensor | None:
            mask, x = regions.mask(output, concept), inputs[0]
            if mask is None or regions.rows is None:
                return None
            if (
                len(x) == len(regions.rows) != regions.batch
            ):  # who watches asks of the samples that call alone
                return output + (ready.added(module, x) * mask.to(output.dtype)).to(output.dtype)
            added = ready.added(module, x[regions.rows]) * mask.to(output.dtype)
            return output.index_add(0, regions.rows, added.to(output.dtype))

        yield module, add
