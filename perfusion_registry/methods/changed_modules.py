"""Methods that learn changes of single modules of the denoiser, and draw them as imported LoRAs are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from perfusion_registry.errors import PerfError
from perfusion_registry.methods import rare_word
from perfusion_registry.methods.defaults import over_defaults
from perfusion_registry.methods.lora.options import EVERYWHERE, GATED, LOCALISED
from perfusion_registry.methods.lora.words import words_for
from perfusion_registry.methods.low_rank import PREFIX
from perfusion_registry.methods.rare_word import RareWordMethod, RareWordOptions
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.base import Base
    from perfusion_registry.edit import CovarianceMetric
    from perfusion_registry.methods.contribution import Contribution
    from perfusion_registry.methods.transfer import Learned, Transferred


def _adapters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}


class ChangedModules(RareWordMethod):
    """A method whose artifacts hold adapters of the denoiser, and perhaps a learned word.

    Its `draw_model` has a `strength` and a `reach`, None where nobody says.
    """

    transferable = True

    def resolve_train(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> FileModel:
        """The recipe's over what is about the base over the method's own."""
        return over_defaults(self.tables["train"], recipe.train, self.defaults(base_defaults), "train")

    def resolve_render(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> FileModel:
        """The recipe's."""
        return self.draw_model.model_validate(recipe.render.model_dump(exclude_none=True))

    def silent(self, draw: FileModel) -> bool:
        """At strength 0."""
        strength: float = getattr(draw, "strength", 1.0)
        return not strength

    def among(self, draw: FileModel, *, style: bool, others: int) -> FileModel:
        """A concept alone applies everywhere; beside other things it is gated, as imported LoRAs are."""
        if getattr(draw, "reach", None) is not None:
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

        if self.silent(draw):
            return Contribution()
        reach: str | None = getattr(draw, "reach", None)
        strength: float = getattr(draw, "strength", 1.0)
        changes = changes_of(base, _adapters(tensors), name)
        return Contribution(
            words=words_for(base, tensors, name),
            adapters=Adapters(
                denoiser=changes.get("denoiser", {}),
                text={},
                strength=strength,
                gated=reach == GATED,
                localised=reach in (LOCALISED, GATED),
            ),
        )

    def transferred(
        self, learned: Learned, base: Base, metric: CovarianceMetric | None, before: Base | None
    ) -> Transferred:
        """As it is, as other programs take a LoRA from one fine-tuned base to another."""
        from perfusion_registry.methods.lora.drawing import changes_of
        from perfusion_registry.methods.transfer import Transferred

        changes_of(base, _adapters(learned.tensors), learned.name)
        words_for(base, learned.tensors, learned.name)
        return Transferred(dict(learned.tensors))

    def tensor_mistake(self, train: FileModel, tensors: Mapping[str, Tensor]) -> str | None:
        """Those of adapters, whole, and of the word."""
        from perfusion_registry.adapters.adapter import adapters_of

        assert isinstance(train, RareWordOptions)
        adapters = _adapters(tensors)
        if not adapters:
            return "it changes nothing"
        try:
            adapters_of(adapters)
        except PerfError as error:
            return error.what
        return rare_word.word_mistake(train, tensors)
