"""Custom Diffusion (Kumari et al., CVPR 2023): keys and values of cross-attention, and a word.

The weights of all K and V projections of cross-attention are learned whole, with the embedding of a rare word
beside the supercategory, and pictures of the supercategory that the base draws (the paper takes photographs
of LAION). Several concepts of a prompt are merged as the paper merges them: of all changes that give their
words what each has learned, the one that changes what captions say the least, in closed form.

| tensor | meaning | shape | type |
|---|---|---|---|
| `denoiser.<layer>.to_k.diff`, `...to_v.diff` | what was learned | (m', d) | fp16 |
| `denoiser.<layer>.to_k.lora_down`, `.lora_up` ... | the same, compressed | (r, d), (m', r) | fp16 |
| `merge_input`, `merge_dual` | encodings of its words in "a photo of a", and `C^-1` of them | (T, d) | fp32 |
| `words.0.text_encoder` ... | the rare word's embedding | (1, d_token) | fp32 |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from perfusion_registry.methods import low_rank
from perfusion_registry.methods.changed_modules import ChangedModules
from perfusion_registry.methods.custom_diffusion.options import (
    MERGED,
    NAME,
    PRIOR_PICTURES,
    SETTINGS,
    TOKEN,
    Built,
    CustomRecipe,
    DrawOptions,
    TrainOptions,
)
from perfusion_registry.methods.interface import PATH, TensorRule
from perfusion_registry.methods.lora import words
from perfusion_registry.methods.lora.options import EVERYWHERE
from perfusion_registry.recipe.model import FileModel

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from perfusion_registry.base import Base
    from perfusion_registry.edit import CovarianceMetric
    from perfusion_registry.methods.contribution import Contribution
    from perfusion_registry.methods.trainable import Trainable
    from perfusion_registry.recipe.options import TrainingOptions


class CustomDiffusion(ChangedModules):
    """Prompt-side alone."""

    name = NAME
    epoch = 1
    recipe_model = CustomRecipe
    tables = MappingProxyType({"train": TrainOptions, "render": DrawOptions, "built": Built})
    draw_model = DrawOptions
    settings = SETTINGS
    tensor_rules = (
        TensorRule(rf"denoiser\.{PATH}\.diff", dimensions=2, half=True),
        low_rank.RULE,
        words.RULE,
        TensorRule("merge_(input|dual)", dimensions=2, half=False),
    )
    needs_covariance = True
    transferable = False

    def defaults(self, base_defaults: Mapping[str, Any]) -> dict[str, Any]:
        """With a word that is learned, and prior pictures."""
        own = {"token": TOKEN, "learn_token": True, "prior_pictures": PRIOR_PICTURES}
        return {**super().defaults(base_defaults), **own}

    def among(self, draw: FileModel, *, style: bool, others: int) -> FileModel:
        """A concept alone applies everywhere; in company it is merged."""
        assert isinstance(draw, DrawOptions)
        if draw.reach is not None:
            return draw
        return draw.model_copy(update={"reach": MERGED if others else EVERYWHERE})

    def trainable(
        self,
        base: Base,
        word: str,
        metric: CovarianceMetric | None,
        options: TrainingOptions,
        generator: Generator,
    ) -> Trainable:
        """See `methods.custom_diffusion.training`."""
        from perfusion_registry.methods.custom_diffusion.training import CustomTrainable

        assert isinstance(options, TrainOptions)
        assert metric is not None
        return CustomTrainable(base, word, metric, options, self.call(options, word))

    def built(self, step: int, covariance: str | None) -> FileModel:
        """With the covariance."""
        return Built.model_validate({"step": step, "covariance": covariance})

    def contribution(
        self,
        base: Base,
        tensors: Mapping[str, Tensor],
        name: str,
        word: str,
        train: FileModel,
        draw: FileModel,
    ) -> Contribution:
        """Its changes of K and V, and where it is merged, what it is merged by."""
        from perfusion_registry.methods.contribution import Merge

        assert isinstance(draw, DrawOptions)
        brought = super().contribution(base, tensors, name, word, train, draw)
        adapters = brought.adapters
        if adapters is None:
            return brought
        adapters = replace(adapters, localised=False)
        if draw.reach != MERGED:
            return replace(brought, adapters=adapters)
        merge = Merge(tensors["merge_input"].float(), tensors["merge_dual"].float())
        return replace(brought, adapters=adapters, merge=merge)

    def tensor_mistake(self, train: FileModel, tensors: Mapping[str, Tensor]) -> str | None:
        """With what it is merged by."""
        shapes = {tensors[key].shape for key in ("merge_input", "merge_dual") if key in tensors}
        if len(shapes) != 1 or len({"merge_input", "merge_dual"} & tensors.keys()) != 2:
            return "what it is merged by is not whole"
        return super().tensor_mistake(train, tensors)


METHOD = CustomDiffusion()
