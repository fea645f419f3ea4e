"""Perfusion: gated, key-locked rank-one edits of cross-attention, and with them personalised residuals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfusion_registry.methods.defaults import over_defaults
from perfusion_registry.methods.interface import Method
from perfusion_registry.methods.perfusion.options import (
    PerfusionRecipe,
    RenderOptions,
    RenderSection,
    TrainOptions,
)
from perfusion_registry.methods.perfusion.presets import PRESETS
from perfusion_registry.recipe.recipe import DEFAULT_METHOD, Recipe


class Perfusion(Method):
    """The method of files that name none."""

    name = DEFAULT_METHOD
    epoch = 0
    """Format 1 counts the trainer's epoch alone, and perfusion's keys keep its spelling."""
    recipe_model = PerfusionRecipe

    def resolve_train(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> TrainOptions:
        """A base card's `[train]` is keyed as perfusion's; an unknown key there is an error."""
        return over_defaults(TrainOptions, recipe.train, base_defaults, "train")

    def resolve_render(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> RenderOptions:
        """A base card's `[render]` also speaks of steps, sizes and guidance, which concern the renderer."""
        known = {key: value for key, value in base_defaults.items() if key in RenderOptions.model_fields}
        section = recipe.render
        assert isinstance(section, RenderSection)
        if section.preset is not None:
            preset = PRESETS[section.preset]
            lock = section.key_lock or known.get("key_lock") or RenderOptions().key_lock
            known |= {"bias": preset.bias(lock), "temperature": preset.temperature}
        return over_defaults(RenderOptions, section.model_copy(update={"preset": None}), known, "render")


METHOD = Perfusion()
