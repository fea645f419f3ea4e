"""Personalised residuals (Ham et al., CVPR 2024): low-rank additions to the denoiser's blocks.

By themselves they are a method, here; a perfusion concept may carry them as well. A call is the paper's: a
rare word V* that is never learned, beside the supercategory. Where both are attended to it applies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from perfusion_registry.errors import PerfError
from perfusion_registry.methods import low_rank, rare_word
from perfusion_registry.methods.defaults import over_defaults
from perfusion_registry.methods.interface import KeptStep
from perfusion_registry.methods.lora import words
from perfusion_registry.methods.rare_word import RareWordMethod
from perfusion_registry.methods.residuals import tensors as kept
from perfusion_registry.methods.residuals.options import (
    COARSE,
    LAG,
    NAME,
    OFF,
    PAPERS_TARGETS,
    STRENGTH,
    STRENGTHS,
    DrawOptions,
    ResidualsRecipe,
    TrainOptions,
    TrainSection,
)
from perfusion_registry.methods.settings import Value
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.recipe import Recipe

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from perfusion_registry.base import Base, Mask
    from perfusion_registry.edit import CovarianceMetric
    from perfusion_registry.methods.contribution import Contribution
    from perfusion_registry.methods.trainable import Trainable
    from perfusion_registry.methods.transfer import Learned, Transferred
    from perfusion_registry.recipe.options import TrainingOptions


class Residuals(RareWordMethod):
    """Network-side alone, unless keys and values are among its targets.

    It is drawn by localised attention-guided sampling (Section 3.3): where the concept's words are attended
    to, in each block and step; everywhere else the base draws as it always does.
    """

    name = NAME
    epoch = 2
    recipe_model = ResidualsRecipe
    tables = MappingProxyType({"train": TrainOptions, "render": DrawOptions, "built": KeptStep})
    draw_model = DrawOptions
    settings = (STRENGTH, LAG)
    strength = STRENGTH.field
    strengths = COARSE
    tensor_rules = (kept.RULE, low_rank.RULE, words.RULE)
    transferable = True

    def resolve_train(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> FileModel:
        """The recipe's over what is about the base over the paper's."""
        paper = {**self.defaults(base_defaults), "start": "random"}
        return over_defaults(TrainOptions, recipe.train, paper, "train")

    def resolve_render(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> DrawOptions:
        """Nothing of a base card's `[render]`: the strength there is for residuals beside an edit. What is
        not of output projections alone has no place of its own."""
        assert isinstance(recipe.train, TrainSection)
        placed = recipe.train.targets in (None, PAPERS_TARGETS)
        return over_defaults(DrawOptions, recipe.render, {} if placed else {"lag": OFF}, "render")

    def mask(self, render: FileModel) -> Mask:
        """As `lag` says."""
        assert isinstance(render, DrawOptions)
        return render.lag

    def silent(self, draw: FileModel) -> bool:
        """At strength 0."""
        assert isinstance(draw, DrawOptions)
        return not draw.residual

    def options_mistake(self, name: str, train: FileModel, draw: FileModel) -> PerfError | None:
        """A map of a block's attention comes too late for what is in front of it."""
        assert isinstance(train, TrainOptions)
        assert isinstance(draw, DrawOptions)
        if train.targets == PAPERS_TARGETS or draw.lag == OFF or self.silent(draw):
            return None
        listed = " and ".join(train.targets)
        return PerfError(
            f"{name!r} has residuals of {listed}, and only those of proj_out alone can be drawn where it is",
            hint=f"leave lag={draw.lag} out, or write lag=off",
        )

    def search_space(
        self, name: str, train: FileModel, now: FileModel, choices: Mapping[str, Sequence[Value]]
    ) -> list[FileModel]:
        """Its strengths, where it is drawn now."""
        strengths = choices.get(STRENGTH.field) or STRENGTHS
        assert isinstance(now, DrawOptions)
        lags = choices.get(LAG.field) or (now.lag,)
        return [
            DrawOptions.model_validate({STRENGTH.field: strength, LAG.field: lag})
            for lag in lags
            for strength in strengths
        ]

    def check_base(self, base: Base, name: str, options: TrainingOptions) -> None:
        """It needs transformer blocks."""
        kept.require_blocks(base, name, "learn it by another method, such as perfusion")
        assert isinstance(options, TrainOptions)
        if "proj_in" in options.targets and not kept.have_inputs(base):
            raise PerfError(
                f"this base's transformer blocks have no input projections that {name!r} could learn",
                hint='write `targets = ["proj_out"]`',
            )

    def trainable(
        self,
        base: Base,
        word: str,
        metric: CovarianceMetric | None,
        options: TrainingOptions,
        generator: Generator,
    ) -> Trainable:
        """See `methods.residuals.training`."""
        from perfusion_registry.methods.residuals.training import ResidualTrainable

        assert isinstance(options, TrainOptions)
        return ResidualTrainable(base, word, options, generator)

    def contribution(
        self,
        base: Base,
        tensors: Mapping[str, Tensor],
        name: str,
        word: str,
        train: FileModel,
        draw: FileModel,
    ) -> Contribution:
        """Its factors, and where there is no rare word, the supercategory's own embeddings."""
        from perfusion_registry.methods.contribution import Adapters, Contribution
        from perfusion_registry.methods.embeddings import embeddings_of_word
        from perfusion_registry.methods.lora.drawing import changes_of

        assert isinstance(train, TrainOptions)
        assert isinstance(draw, DrawOptions)
        if train.token and self.silent(draw):
            return Contribution()
        modules = low_rank.module_tensors(tensors)
        changes = changes_of(base, modules, name).get("denoiser", {}) if draw.residual else {}
        return Contribution(
            () if train.token else embeddings_of_word(base, word),
            None,
            kept.residual_of(tensors) if draw.residual else {},
            draw.residual,
            draw.lag,
            Adapters(changes, {}, draw.residual) if changes else None,
            words.words_for(base, tensors, name),
        )

    def transferred(
        self, learned: Learned, base: Base, metric: CovarianceMetric | None, before: Base | None
    ) -> Transferred:
        """With its factors as they are."""
        from perfusion_registry.methods.fitting import require_fit
        from perfusion_registry.methods.lora.drawing import changes_of
        from perfusion_registry.methods.transfer import Transferred

        require_fit(learned, base)
        tensors = learned.tensors
        modules = low_rank.module_tensors(tensors)
        changes_of(base, modules, learned.name)
        words.words_for(base, tensors, learned.name)
        return Transferred(dict(learned.tensors))

    def tensor_mistake(self, train: FileModel, tensors: Mapping[str, Tensor]) -> str | None:
        """Every A has its B, and a word that was learned is there."""
        assert isinstance(train, TrainOptions)
        blocks = kept.is_whole(tensors, learned="proj_out" in train.targets)
        beside = low_rank.is_whole(tensors, learned=bool({"proj_in", "kv"} & {*train.targets}))
        if not (blocks and beside):
            return "its residual is not whole"
        return rare_word.word_mistake(train, tensors)


METHOD = Residuals()
