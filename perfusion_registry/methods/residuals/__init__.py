"""Personalised residuals (Ham et al., CVPR 2024): low-rank additions to the denoiser's blocks.

By themselves they are a method, here; a perfusion concept may carry them as well. The paper's unique token
V*, a rare word that is never learned, is not needed: a call says by itself which tokens are the concept's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from perfusion_registry.methods.defaults import over_defaults
from perfusion_registry.methods.interface import KeptStep, Method
from perfusion_registry.methods.residuals import tensors as kept
from perfusion_registry.methods.residuals.options import (
    COARSE,
    NAME,
    STRENGTH,
    STRENGTHS,
    DrawOptions,
    ResidualsRecipe,
    TrainOptions,
)
from perfusion_registry.methods.settings import Value
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.recipe import Recipe

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from perfusion_registry.base import Base
    from perfusion_registry.edit import CovarianceMetric
    from perfusion_registry.methods.contribution import Contribution
    from perfusion_registry.methods.trainable import Trainable
    from perfusion_registry.methods.transfer import Learned, Transferred
    from perfusion_registry.recipe.options import TrainingOptions


class Residuals(Method):
    """Network-side alone: K and V are the base's own, and prompts say the supercategory.

    It is drawn by localised attention-guided sampling (Section 3.3): where the concept's word is attended to,
    in each block and step; everywhere else the base draws as it always does.
    """

    name = NAME
    epoch = 1
    recipe_model = ResidualsRecipe
    tables = MappingProxyType({"train": TrainOptions, "render": DrawOptions, "built": KeptStep})
    draw_model = DrawOptions
    settings = (STRENGTH,)
    strength = STRENGTH.field
    strengths = COARSE
    tensor_rules = (kept.RULE,)
    transferable = True

    def resolve_render(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> DrawOptions:
        """Nothing of a base card's `[render]`: the strength there is for residuals beside an edit."""
        return over_defaults(DrawOptions, recipe.render, {}, "render")

    def search_space(
        self, name: str, train: FileModel, now: FileModel, choices: Mapping[str, Sequence[Value]]
    ) -> list[FileModel]:
        """Its strengths."""
        strengths = choices.get(STRENGTH.field) or STRENGTHS
        return [DrawOptions.model_validate({STRENGTH.field: strength}) for strength in strengths]

    def check_base(self, base: Base, name: str, options: TrainingOptions) -> None:
        """It needs transformer blocks."""
        kept.require_blocks(base, name, "learn it by another method, such as perfusion")

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
        """Its factors, and the supercategory's own embeddings."""
        from perfusion_registry.methods.contribution import Contribution
        from perfusion_registry.methods.embeddings import embeddings_of_word

        assert isinstance(draw, DrawOptions)
        factors = kept.residual_of(tensors) if draw.residual else {}
        return Contribution(embeddings_of_word(base, word), None, factors, draw.residual)

    def transferred(
        self, learned: Learned, base: Base, metric: CovarianceMetric | None, before: Base | None
    ) -> Transferred:
        """With its factors as they are."""
        from perfusion_registry.methods.fitting import require_fit
        from perfusion_registry.methods.transfer import Transferred

        require_fit(learned, base)
        return Transferred(dict(learned.tensors))

    def tensor_mistake(self, train: FileModel, tensors: Mapping[str, Tensor]) -> str | None:
        """Every A has its B."""
        return None if kept.is_whole(tensors, learned=True) else "its residual is not whole"


METHOD = Residuals()
