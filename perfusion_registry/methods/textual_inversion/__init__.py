"""Textual inversion: a concept is one learned token ("An Image is Worth One Word", Gal et al., ICLR 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from perfusion_registry.methods import embeddings
from perfusion_registry.methods.interface import KeptStep, Method
from perfusion_registry.methods.textual_inversion.options import (
    NAME,
    InversionRecipe,
    NoOptions,
    TrainOptions,
)
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


class TextualInversion(Method):
    """Prompt-side, without an edit: the token stands in the prompt, and the denoiser is the base's own."""

    name = NAME
    epoch = 1
    recipe_model = InversionRecipe
    tables = MappingProxyType({"train": TrainOptions, "render": NoOptions, "built": KeptStep})
    draw_model = NoOptions
    tensor_rules = (embeddings.RULE,)
    transferable = True

    def resolve_render(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> NoOptions:
        """Nothing."""
        return NoOptions()

    def trainable(
        self,
        base: Base,
        word: str,
        metric: CovarianceMetric | None,
        options: TrainingOptions,
        generator: Generator,
    ) -> Trainable:
        """See `methods.textual_inversion.training`."""
        from perfusion_registry.methods.textual_inversion.training import InversionTrainable

        assert isinstance(options, TrainOptions)
        return InversionTrainable(base, word, options)

    def contribution(
        self,
        base: Base,
        tensors: Mapping[str, Tensor],
        name: str,
        word: str,
        train: FileModel,
        draw: FileModel,
    ) -> Contribution:
        """Its embeddings alone."""
        from perfusion_registry.methods.contribution import Contribution

        return Contribution(embeddings.embeddings_for(base, tensors, name))

    def transferred(
        self, learned: Learned, base: Base, metric: CovarianceMetric | None, before: Base | None
    ) -> Transferred:
        """With its embeddings as they are."""
        from perfusion_registry.methods.fitting import require_fit
        from perfusion_registry.methods.transfer import Transferred

        require_fit(learned, base)
        return Transferred(dict(learned.tensors))

    def tensor_mistake(self, train: FileModel, tensors: Mapping[str, Tensor]) -> str | None:
        """An embedding for each text encoder, numbered."""
        return embeddings.mistake(tensors)


METHOD = TextualInversion()
