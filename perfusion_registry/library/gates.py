"""What a program sets of how concepts are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from perfusion_registry.compose.checking import SettingSources
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.perfusion.gate import Gate
from perfusion_registry.methods.settings import Axis, Settings, Value
from perfusion_registry.methods.table import find_setting
from perfusion_registry.recipe import canonical_name

Gates = Gate | Mapping[str, Any]
"""What to set of every concept, `Gate(bias=0.5)`, or of each by its name, `{"teddy": Gate(bias=0.5)}`; it
goes before a scene's and the concepts' own values, and after what braces in the prompt say. `Gate` has the
options of perfusion; a mapping has those of any method, `{"bias": 0.5}`."""


def gate_sources(gates: Gates | None) -> SettingSources:
    """As `compose` takes them; it also checks the values."""
    if gates is None:
        return SettingSources()
    by_name: dict[str, Settings] = {
        canonical_name(name.removesuffix("*")): setting
        for name, setting in gates.items()
        if isinstance(setting, Mapping)
    }
    every = {field: value for field, value in gates.items() if not isinstance(value, Mapping)}
    return SettingSources(by_name, every)


def axis_of(key: str, values: Iterable[float] | None) -> Axis | None:
    """One side of a sweep, each value once; None where nothing is said."""
    return None if values is None else Axis(key, tuple(dict.fromkeys(values)))


def choices_of(said: Iterable[tuple[str, Iterable[Value] | None]]) -> dict[str, tuple[Value, ...]]:
    """What may be chosen of options, by field, each value once. said: by name; None says nothing."""
    choices: dict[str, tuple[Value, ...]] = {}
    for name, values in said:
        if values is not None:
            field = find_setting(name).field
            if field in choices:
                raise PerfError(f"what may be chosen of {name} is said twice", hint="say all its values once")
            choices[field] = tuple(dict.fromkeys(values))
    return choices
