"""Gate presets: the ranges that the paper recommends, by what they do to a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from perfusion_registry.methods.perfusion.options import PresetName
from perfusion_registry.recipe.model import FileModel

PRESET_NAMES: tuple[PresetName, ...] = get_args(PresetName)


@dataclass(frozen=True)
class Preset:
    """The gate that a preset stands for.

    local_bias: under a local lock, or trained keys; global_bias: under a global lock. meaning: in one line.
    """

    local_bias: float
    global_bias: float
    temperature: float
    meaning: str

    def bias(self, key_lock: str) -> float:
        """The bias that belongs to a key lock."""
        return self.global_bias if key_lock == "global" else self.local_bias


PRESETS: dict[PresetName, Preset] = {
    "faithful": Preset(0.6, 0.4, 0.15, "more of the concept: it looks like its pictures"),
    "balanced": Preset(0.675, 0.5, 0.15, "the middle of what the paper recommends"),
    "editable": Preset(0.75, 0.6, 0.15, "less of the concept: the words around it have more say"),
    "together": Preset(0.55, 0.55, 0.15, "several concepts in one prompt"),
}
"""Ends and middle of "a temperature of 0.15 and bias of 0.6-0.75 for local key lock, or 0.4-0.6 for global
key lock" (Section 4.4), and what Figure 1 takes for a teddy in a teapot (Appendix H)."""


class GatePreset(FileModel):
    """A gate preset: its bias under each key lock, and its temperature."""

    name: str
    local_bias: float
    global_bias: float
    temperature: float
    meaning: str
