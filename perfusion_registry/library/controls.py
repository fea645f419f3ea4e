"""How a program says the pictures that control a drawing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def said_of_controls(
    control: Mapping[str, str | Path] | None, strength: float | Mapping[str, float] | None
) -> dict[str, Any]:
    """Fields of `RenderOverrides`. control: files by the names of the base's controls. strength: of all of
    them, or by name."""
    by_name = isinstance(strength, Mapping)
    return {
        "controls": {name: Path(path) for name, path in (control or {}).items()},
        "control_strength": None if by_name else strength,
        "control_strengths": dict(strength) if isinstance(strength, Mapping) else {},
    }
