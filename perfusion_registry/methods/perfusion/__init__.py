"""Perfusion: gated, key-locked rank-one edits of cross-attention, and with them personalised residuals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.defaults import over_defaults
from perfusion_registry.methods.interface import Method
from perfusion_registry.methods.perfusion import baselines, rendering
from perfusion_registry.methods.perfusion import tensors as kept
from perfusion_registry.methods.perfusion.gate import SETTINGS, Gate
from perfusion_registry.methods.perfusion.options import (
    Built,
    DrawOptions,
    PerfusionRecipe,
    RenderOptions,
    TrainOptions,
    TrainSection,
)
from perfusion_registry.methods.perfusion.search import search_space
from perfusion_registry.methods.residuals.options import COARSE, STRENGTH
from perfusion_registry.methods.residuals.tensors import require_blocks
from perfusion_registry.methods.settings import Settings, Value
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.recipe import DEFAULT_METHOD, Recipe

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from perfusion_registry.base import Base
    from perfusion_registry.edit import CovarianceMetric
    from perfusion_registry.methods.contribution import Contribution, Targets
    from perfusion_registry.methods.trainable import MakeTrainable, Trainable
    from perfusion_registry.methods.transfer import Learned, Transferred
    from perfusion_registry.recipe.options import TrainingOptions


_BIASES = ("bias", "relative_bias")


class Perfusion(Method):
    """The method of files that name none."""

    name = DEFAULT_METHOD
    epoch = 0
    """Format 1 counts the trainer's epoch alone, and perfusion's keys keep its spelling."""
    recipe_model = PerfusionRecipe
    tables = MappingProxyType({"train": TrainOptions, "render": RenderOptions, "built": Built})
    draw_model = DrawOptions
    settings = SETTINGS
    strength = STRENGTH.field
    strengths = COARSE
    tensor_rules = kept.RULES
    needs_covariance = True
    drawings = baselines.BASELINES
    trainings = ("one-index",)
    transferable = True

    def resolve_train(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> TrainOptions:
        """A base card's `[train]` is keyed as perfusion's; an unknown key there is an error."""
        section = recipe.train
        section = section.spelt_out if isinstance(section, TrainSection) else section
        return over_defaults(TrainOptions, section, base_defaults, "train")

    def resolve_render(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> RenderOptions:
        """See `methods.perfusion.rendering`."""
        return rendering.resolved(recipe, base_defaults)

    def resolved_before(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> RenderOptions:
        """With presets and global locks as they were."""
        return rendering.resolved_before(recipe, base_defaults)

    def own_options(self, train: FileModel, render: FileModel, locked: Settings) -> DrawOptions:
        """A concept whose keys were trained uses them unless a lock is asked for: `local` in its card is only
        the default of the recipe. One that learned no residual has no strength of it.
        """
        trained, own = TrainOptions.of(train), RenderOptions.of(render)
        gate = Gate.of(locked).over_own(_gate(own))
        if trained.trained_keys and gate.key_lock == "local":
            gate = replace(gate, key_lock="none")
        return _options(gate if trained.residual_rank else replace(gate, residual=None))

    def set_options(
        self, name: str, now: FileModel, named: Sequence[Settings], general: Sequence[Settings] = ()
    ) -> DrawOptions:
        """A preset sets the bias and temperature that its own place leaves open, for the lock that is
        settled. A residual can be set by name only where there is one.
        """
        assert isinstance(now, DrawOptions)
        places = [Gate.of(place) for place in (*named, *general)]
        if now.residual is None and any(gate.residual is not None for gate in places[: len(named)]):
            raise PerfError(
                f"a strength is set for the residual of {name!r}, but none was learned for it",
                hint="leave it out, or build the concept with residual_rank = 0.05 under [train]",
            )
        gate = reduce(Gate.over, places, Gate()).over_own(_gate(now)).settled()
        return _options(gate if now.residual is not None else replace(gate, residual=None))

    def has_setting(self, draw: FileModel, called: str) -> bool:
        """Of the two kinds of bias every concept has one, which the other or a preset may replace."""
        return called in (*_BIASES, "preset") or super().has_setting(draw, called)

    def options_mistake(self, name: str, train: FileModel, draw: FileModel) -> PerfError | None:
        """Keys that were not trained cannot be used."""
        assert isinstance(draw, DrawOptions)
        if draw.key_lock != "none" or TrainOptions.of(train).trained_keys:
            return None
        return PerfError(
            f"the lock of {name!r} is none, but no keys were trained for it",
            hint="use lock=local or lock=global, or build it with trained_keys = true in its recipe",
        )

    def search_space(
        self, name: str, train: FileModel, now: FileModel, choices: Mapping[str, Sequence[Value]]
    ) -> list[FileModel]:
        """See `methods.perfusion.search`."""
        assert isinstance(now, DrawOptions)
        trained_keys = TrainOptions.of(train).trained_keys
        space: list[FileModel] = list(search_space(now, choices, trained_keys=trained_keys))
        if not space:
            raise PerfError(
                f"{name!r} can have none of the locks to try",
                where="--lock",
                hint="lock none is for concepts with trained keys",
            )
        return space

    def check_base(self, base: Base, name: str, options: TrainingOptions) -> None:
        """A residual needs transformer blocks."""
        if TrainOptions.of(options).residual_rank:
            require_blocks(base, name, "leave residual_rank out of its [train]")

    def trainable(
        self,
        base: Base,
        word: str,
        metric: CovarianceMetric | None,
        options: TrainingOptions,
        generator: Generator,
    ) -> Trainable:
        """See `methods.perfusion.training`."""
        from perfusion_registry.methods.perfusion.training import PerfusionTrainable

        return PerfusionTrainable.begin(base, word, metric, options, generator)

    def training(self, training: str) -> MakeTrainable:
        """See `methods.perfusion.one_index`."""
        from perfusion_registry.methods.perfusion.one_index import OneIndexTrainable

        return OneIndexTrainable.begin

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

    def transfer_needs_base(self, learned: Learned) -> bool:
        """Of format 1, whose o*_V is kept whole, and where keys were trained."""
        return bool(kept.outputs(learned.tensors) or kept.output_keys(learned.tensors))

    def transferred(
        self, learned: Learned, base: Base, metric: CovarianceMetric | None, before: Base | None
    ) -> Transferred:
        """See `methods.perfusion.transfer`."""
        from perfusion_registry.methods.perfusion.transfer import transferred

        assert metric is not None
        return transferred(learned, base, metric, before)

    def drawing_mistake(self, drawing: str, draw: FileModel) -> PerfError | None:
        """See `methods.perfusion.baselines`."""
        assert isinstance(draw, DrawOptions)
        return baselines.mistake(drawing, draw)

    def packed(
        self, drawing: str, E: Tensor, W: Tensor, targets: Targets, places: Mapping[int, int]
    ) -> Tensor:
        """See `methods.perfusion.baselines`."""
        return baselines.packed(drawing, E, W, targets, places)

    def tensor_mistake(self, train: FileModel, tensors: Mapping[str, Tensor]) -> str | None:
        """See `methods.perfusion.tensors`."""
        assert isinstance(train, TrainOptions)
        return kept.mistake(train, tensors)


def _gate(options: RenderOptions | DrawOptions) -> Gate:
    """A concept's options as a place like the others."""
    return Gate.of(options.model_dump(exclude_none=True))


def _options(gate: Gate) -> DrawOptions:
    """A settled gate, which is complete, as the options that apply."""
    return DrawOptions.model_validate(dict(gate))


METHOD = Perfusion()
