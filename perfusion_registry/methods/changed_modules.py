"""Methods that learn changes of single modules of the denoiser, and draw them as imported LoRAs are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from perfusion_registry.methods import rare_word
from perfusion_registry.methods.defaults import over_defaults
from perfusion_registry.methods.lora.options import EVERYWHERE, GATED, LOCALISED, Strength
from perfusion_registry.methods.lora.words import words_for
from perfusion_registry.methods.low_rank import module_tensors
from perfusion_registry.methods.rare_word import RareWordMethod, RareWordOptions
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.base import Base
    from perfusion_registry.edit import CovarianceMetric
    from perfusion_registry.methods.contribution import Contribution
    from perfusion_registry.methods.transfer import Learned, Transferred

MAX_GRAD_NORM = 1.0
"""As diffusers' scripts have it."""


class ChangeOptions(FileModel):
    """How a change applies in a prompt. reach: by its method's names; None where nobody says."""

    strength: Strength = 1.0
    reach: Annotated[str | None, Field(exclude_if=lambda value: value is None)] = None


class ChangedModules(RareWordMethod):
    """A method whose artifacts hold adapters of the denoiser, and perhaps a learned word.

    Its `draw_model` is a `ChangeOptions`.
    """

    transferable = True
    reads_captions = True

    def defaults(self, base_defaults: Mapping[str, Any]) -> dict[str, Any]:
        """With gradients clipped as diffusers' scripts of these methods clip them."""
        return {**super().defaults(base_defaults), "max_grad_norm": MAX_GRAD_NORM}

    def resolve_train(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> FileModel:
        """The recipe's over what is about the base over the method's own."""
        return over_defaults(self.tables["train"], recipe.train, self.defaults(base_defaults), "train")

    def resolve_render(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> FileModel:
        """The recipe's."""
        return self.draw_model.model_validate(recipe.render.model_dump(exclude_none=True))

    def adapters_in(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Those of an artifact's tensors that change modules."""
        return module_tensors(tensors)

    def silent(self, draw: FileModel) -> bool:
        """At strength 0."""
        assert isinstance(draw, ChangeOptions)
        return not draw.strength

    def among(self, draw: FileModel, *, style: bool, others: int) -> FileModel:
        """A concept alone applies everywhere; beside other things it is gated, as imported LoRAs are."""
        assert isinstance(draw, ChangeOptions)
        if draw.reach is not None:
            return draw
        return draw.model_copy(update={"reach": GATED if others else EVERYWHERE})

    def contribution(
        self,
        base: Base,
        tensors: Mapping[str, Tensor],
        name: str,
        word: str,
        train: FileModel,
        draw: FileModel,
    ) -> Contribution:
        """Its adapters, and its word where that was learned."""
        from perfusion_registry.methods.contribution import Adapters, Contribution
        from perfusion_registry.methods.lora.drawing import changes_of

        assert isinstance(draw, ChangeOptions)
        if self.silent(draw):
            return Contribution()
        changes = changes_of(base, self.adapters_in(tensors), name)
        return Contribution(
            words=words_for(base, tensors, name),
            adapters=Adapters(
                denoiser=changes.pop("denoiser", {}),
                text=changes,
                strength=draw.strength,
                text_strength=draw.strength,
                gated=draw.reach == GATED,
                localised=draw.reach in (LOCALISED, GATED),
            ),
        )

    def transferred(
        self, learned: Learned, base: Base, metric: CovarianceMetric | None, before: Base | None
    ) -> Transferred:
        """As it is."""
        from perfusion_registry.methods.lora.drawing import as_it_is

        return as_it_is(learned, base, self.adapters_in(learned.tensors))

    def tensor_mistake(self, train: FileModel, tensors: Mapping[str, Tensor]) -> str | None:
        """Those of adapters, whole, and of the word."""
        from perfusion_registry.methods.lora.drawing import adapters_mistake

        assert isinstance(train, RareWordOptions)
        return adapters_mistake(self.adapters_in(tensors)) or rare_word.word_mistake(train, tensors)
