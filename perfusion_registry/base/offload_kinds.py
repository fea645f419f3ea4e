"""What of a base can be away from a device while it does not compute. Importing this needs no torch."""

from __future__ import annotations

import os
from typing import Literal, get_args

from perfusion_registry.errors import PerfError

Offload = Literal["model", "group"]
"""`model`: all of a model, such as the UNet, is on the device or away. `group`: one layer at a time."""


VARIABLE = "PERF_OFFLOAD"


def said_by_variable(name: str | None) -> bool:
    """Whether the environment says this for every command."""
    return name is not None and os.environ.get(VARIABLE) == name


def said_in(name: str | None) -> str:
    """Where this was asked for, in errors: the variable, else the option."""
    return VARIABLE if said_by_variable(name) else "--offload"


def read_offload(name: str | None) -> Offload | None:
    """What a command or a program asks for by this name. Raises PerfError for any other."""
    for kind in get_args(Offload):
        if name == kind:
            found: Offload = kind
            return found
    if name is None:
        return None
    raise PerfError(
        f"{name!r} is nothing that can be offloaded", where=said_in(name), hint="use model or group"
    )


def require_whole_models(offload: Offload | None) -> None:
    """Raise PerfError for what cannot be trained with: gradients come back to layers that are away."""
    if offload == "group":
        raise PerfError(
            "a concept cannot be learned while single layers are offloaded: gradients need all of them",
            where=f"{said_in(offload)} group",
            hint="use `--offload model`; pictures can be drawn with `group`",
        )
