"""Gate presets, by what they do to a picture.

The paper's ranges are of a text encoder that spreads a concept over many encodings: there each bias opens
others. Where a concept stays at its own word, only what closes the gate there is seen, so presets are
relative to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from perfusion_registry.methods.perfusion.options import PresetName
from perfusion_registry.recipe.model import FileModel

PRESET_NAMES: tuple[PresetName, ...] = get_args(PresetName)

GLOBAL_BIAS = 0.5
"""The middle of the "0.4-0.6 for global key lock" that the paper recommends (Section 4.4)."""


@dataclass(frozen=True)
class Preset:
    """The gate that a preset stands for.

    local: under a local lock, or trained keys; global: under a global lock. bias: the paper's, which recipes
    had before there were relative ones. meaning: in one line.
    """

    local_bias: float
    global_bias: float
    local_relative_bias: float
    global_relative_bias: float
    temperature: float
    meaning: str

    def bias(self, key_lock: str) -> float:
        """The bias that belongs to a key lock."""
        return self.global_bias if key_lock == "global" else self.local_bias

    def relative_bias(self, key_lock: str) -> float:
        """The relative bias that belongs to a key lock."""
        return self.global_relative_bias if key_lock == "global" else self.local_relative_bias


PRESETS: dict[PresetName, Preset] = {
    "faithful": Preset(0.6, 0.4, 0.6, 0.4, 0.15, "more of the concept: it looks like its pictures"),
    "balanced": Preset(0.675, 0.5, 0.85, 0.7, 0.15, "between both"),
    "editable": Preset(0.75, 0.6, 1.0, 0.9, 0.15, "less of the concept: the words around it have more say"),
    "together": Preset(0.55, 0.55, 0.55, 0.55, 0.15, "several concepts in one prompt"),
}
"""Biases: ends and middle of "a temperature of 0.15 and bias of 0.6-0.75 for local key lock, or 0.4-0.6 for
global key lock" (Section 4.4), and what Figure 1 takes for a teddy in a teapot (Appendix H). Relative ones:
from where a gate is wide open to where it is open by half at the concept's own word; on Storybook
(`docs/log.md`) `faithful` and `editable` are told apart at a glance.
"""


class GatePreset(FileModel):
    """A gate preset: its bias and its relative bias under each key lock, and its temperature."""

    name: str
    local_bias: float
    global_bias: float
    local_relative_bias: float
    global_relative_bias: float
    temperature: float
    meaning: str
