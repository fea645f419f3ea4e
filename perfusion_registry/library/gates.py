"""What a program says of gates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from perfusion_registry.compose.composing import GateSources
from perfusion_registry.compose.prompt import Gate, gate_value
from perfusion_registry.recipe import canonical_name

Gates = Gate | Mapping[str, Gate]
"""What to set of every concept's gate, or of each by its name; it goes before a scene's and the concepts' own
values, and after what braces in the prompt say."""


def gate_sources(gates: Gates | None) -> GateSources:
    """As `compose` takes them. Raises PerfError for a value that is out of range."""
    if gates is None:
        return GateSources()
    if isinstance(gates, Gate):
        return GateSources(command_all=_checked(gates))
    return GateSources(
        {canonical_name(name.removesuffix("*")): _checked(gate) for name, gate in gates.items()}
    )


def _checked(gate: Gate) -> Gate:
    """The gate, of whose values each is one that the command line would take."""
    for key, value in vars(gate).items():
        if value is not None:
            gate_value(key.removeprefix("key_"), str(value))
    return gate


def checked_values(option: str, values: Iterable[Any] | None) -> tuple[Any, ...] | None:
    """Values of a gate's option, each once; None for None. Raises PerfError for one that is out of range."""
    if values is None:
        return None
    chosen = tuple(dict.fromkeys(values))
    for value in chosen:
        gate_value(option, str(value))
    return chosen
