"""Perfusion: gated, key-locked rank-one edits of cross-attention, and with them personalised residuals."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.defaults import over_defaults
from perfusion_registry.methods.interface import Method
from perfusion_registry.methods.perfusion import tensors as kept
from perfusion_registry.methods.perfusion.options import (
    Built,
    DrawOptions,
    PerfusionRecipe,
    RenderOptions,
    RenderSection,
    TrainOptions,
)
from perfusion_registry.methods.perfusion.presets import PRESETS
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.recipe import DEFAULT_METHOD, Recipe

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from perfusion_registry.base import Base
    from perfusion_registry.edit import Metric
    from perfusion_registry.methods.contribution import Contribution
    from perfusion_registry.methods.trainable import Trainable
    from perfusion_registry.recipe.options import TrainingOptions


class Perfusion(Method):
    """The method of files that name none."""

    name = DEFAULT_METHOD
    epoch = 0
    """Format 1 counts the trainer's epoch alone, and perfusion's keys keep its spelling."""
    recipe_model = PerfusionRecipe
    tables = MappingProxyType({"train": TrainOptions, "render": RenderOptions, "built": Built})
    draw_model = DrawOptions
    tensor_rules = kept.RULES
    needs_covariance = True

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

    def check_base(self, base: Base, name: str, options: TrainingOptions) -> None:
        """A residual needs transformer blocks."""
        if TrainOptions.of(options).residual_rank and not base.residual_blocks:
            raise PerfError(
                f"this base has no transformer blocks that {name!r} could learn a residual for",
                hint="leave residual_rank out of its [train]",
            )

    def trainable(
        self,
        base: Base,
        word: str,
        metric: Metric | None,
        options: TrainingOptions,
        generator: Generator,
    ) -> Trainable:
        """See `methods.perfusion.training`."""
        from perfusion_registry.methods.perfusion.training import PerfusionTrainable

        return PerfusionTrainable.begin(base, word, metric, options, generator)

    def built(self, step: int, covariance: str | None) -> Built:
        """With the digest of C: target inputs belong to its metric."""
        assert covariance is not None
        return Built(covariance=covariance, step=step)

    def contribution(
        self,
        base: Base,
        tensors: Mapping[str, Tensor],
        name: str,
        word: str,
        train: FileModel,
        draw: FileModel,
    ) -> Contribution:
        """See `methods.perfusion.drawing`."""
        from perfusion_registry.methods.perfusion.drawing import contribution

        assert isinstance(draw, DrawOptions)
        return contribution(base, tensors, name, word, TrainOptions.of(train), draw)

    def tensor_mistake(self, train: FileModel, tensors: Mapping[str, Tensor]) -> str | None:
        """See `methods.perfusion.tensors`."""
        assert isinstance(train, TrainOptions)
        return kept.mistake(train, tensors)


METHOD = Perfusion()
