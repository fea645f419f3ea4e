"""`[render]` of a recipe, resolved: what a concept's gate is in prompts that say nothing of it.

A base card's `[render]` also speaks of steps, sizes and guidance, which concern the renderer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfusion_registry.methods.defaults import over_defaults
from perfusion_registry.methods.perfusion.options import RenderOptions, RenderSection
from perfusion_registry.methods.perfusion.presets import GLOBAL_BIAS, PRESETS
from perfusion_registry.recipe.recipe import Recipe

_BIASES = ("bias", "relative_bias")


def resolved(recipe: Recipe, base_defaults: Mapping[str, Any]) -> RenderOptions:
    """The recipe's over the base's over the paper's; presets and a global lock by itself are what they are in
    prompts. A bias of the base is meant for the base's own lock.
    """
    section, known = _read(recipe, base_defaults)
    lock, of_the_base = _lock(section, known), known.get("key_lock") or RenderOptions().key_lock
    said = (section.bias, section.relative_bias) != (None, None)
    foreign = lock == "global" and (of_the_base != "global" or not any(map(known.get, _BIASES)))
    if said or section.preset is not None or foreign:
        known = {key: value for key, value in known.items() if key not in _BIASES}
    if section.preset is not None:
        preset = PRESETS[section.preset]
        known["temperature"] = preset.temperature
        if not said:
            known["relative_bias"] = preset.relative_bias(lock)
    elif foreign and not said:
        known["bias"] = GLOBAL_BIAS
    return over_defaults(RenderOptions, section.model_copy(update={"preset": None}), known, "render")


def resolved_before(recipe: Recipe, base_defaults: Mapping[str, Any]) -> RenderOptions:
    """As in perfs before biases were relative: a preset is the paper's bias, and a lock changes none."""
    section, known = _read(recipe, base_defaults)
    said = (section.bias, section.relative_bias) != (None, None)
    if said or section.preset is not None:
        known = {key: value for key, value in known.items() if key not in _BIASES}
    if section.preset is not None:
        preset = PRESETS[section.preset]
        known["temperature"] = preset.temperature
        if not said:
            known["bias"] = preset.bias(_lock(section, known))
    return over_defaults(RenderOptions, section.model_copy(update={"preset": None}), known, "render")


def _read(recipe: Recipe, base_defaults: Mapping[str, Any]) -> tuple[RenderSection, dict[str, Any]]:
    """The recipe's section, and of the base's defaults those that concern a gate."""
    assert isinstance(recipe.render, RenderSection)
    known = {key: value for key, value in base_defaults.items() if key in RenderOptions.model_fields}
    return recipe.render, known


def _lock(section: RenderSection, known: Mapping[str, Any]) -> str:
    lock: str = section.key_lock or known.get("key_lock") or RenderOptions().key_lock
    return lock
