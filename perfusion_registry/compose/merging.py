"""Concepts whose keys and values are merged in closed form (Custom Diffusion, Section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from perfusion_registry import edit
from perfusion_registry.base import Change
from perfusion_registry.compose.adapting import KEY, VALUE, added_columns
from perfusion_registry.methods.contribution import Adapters, Contribution

if TYPE_CHECKING:
    from perfusion_registry.base import Base


def merged(base: Base, brought: Mapping[str, Contribution]) -> dict[str, Contribution]:
    """The same, where the concepts that are to be merged have one change of K and V together, which the first
    of them brings."""
    merging = {
        name: one for name, one in brought.items() if one.merge is not None and one.adapters is not None
    }
    if not merging:
        return dict(brought)
    bank = base.bank
    inputs, duals, gains = [], [], []
    for one in merging.values():
        assert one.merge is not None
        assert one.adapters is not None
        own = bank.here(one.merge.inputs)
        # (T, D), what the concept's own change adds at its words
        gain = own.new_zeros(len(own), bank.emitted_width)
        for kind in (KEY, VALUE):
            for columns, added in added_columns(base, one.adapters, kind, own):
                gain[:, columns] += added
        inputs.append(own)
        duals.append(bank.here(one.merge.duals))
        gains.append(gain)
    down, up = edit.merged(torch.cat(inputs), torch.cat(duals), torch.cat(gains))
    changes = {
        f"{layer.path}.{kind}": Change(down=down, up=up[rows])
        for layer in bank.layers
        for kind, rows in ((KEY, layer.key_slice), (VALUE, layer.value_slice))
    }
    first, *others = merging
    together = dict(brought)
    together[first] = replace(merging[first], adapters=Adapters(changes, {}), merge=None)
    for name in others:
        together[name] = replace(merging[name], adapters=None, merge=None)
    return together
