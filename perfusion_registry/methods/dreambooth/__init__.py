"""DreamBooth (Ruiz et al., CVPR 2023): all of the denoiser, as diffusers' `train_dreambooth.py` has it.

A rare word beside the supercategory, and all weights of the denoiser; with `text_encoder` those of the text
encoders too, 983 million numbers on Stable Diffusion 1.x. With prior preservation, pictures that the base
draws of the supercategory are learned beside the concept's. What an artifact keeps is the difference to the
base, as low-rank as the recipe asks, and how much of it that is; it is drawn as imported LoRAs are:
everywhere, localised or gated.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from perfusion_registry.methods.changed_modules import ChangedModules
from perfusion_registry.methods.dreambooth.options import (
    NAME,
    SETTINGS,
    Built,
    DrawOptions,
    DreamboothRecipe,
    TrainOptions,
)
from perfusion_registry.methods.interface import PATH, TensorRule
from perfusion_registry.methods.lora import words

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from perfusion_registry.base import Base
    from perfusion_registry.edit import CovarianceMetric
    from perfusion_registry.methods.trainable import Trainable
    from perfusion_registry.recipe.options import TrainingOptions

_PLACE = rf"(denoiser|text_encoder(_2)?)\.{PATH}"


class Dreambooth(ChangedModules):
    """Both sides, and the text encoders where those are learned."""

    name = NAME
    epoch = 1
    recipe_model = DreamboothRecipe
    tables = MappingProxyType({"train": TrainOptions, "render": DrawOptions, "built": Built})
    draw_model = DrawOptions
    settings = SETTINGS
    tensor_rules = (
        TensorRule(rf"{_PLACE}\.lora_(down|up)", dimensions=2, half=True),
        TensorRule(rf"{_PLACE}\.diff", dimensions=None, half=True),
        TensorRule(rf"{_PLACE}\.diff_b", dimensions=1, half=False),
        words.RULE,
    )

    def check_base(self, base: Base, name: str, options: TrainingOptions) -> None:
        """Its layers have to be such as a difference can change, and memory has to suffice."""
        from perfusion_registry.methods.dreambooth.room import require_room

        assert isinstance(options, TrainOptions)
        require_room(base, name, options)

    def trainable(
        self,
        base: Base,
        word: str,
        metric: CovarianceMetric | None,
        options: TrainingOptions,
        generator: Generator,
    ) -> Trainable:
        """See `methods.dreambooth.training`."""
        from perfusion_registry.methods.dreambooth.training import DreamboothTrainable

        assert isinstance(options, TrainOptions)
        return DreamboothTrainable(base, options)

    def adapters_in(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Those of text encoders too."""
        return words.without_words(tensors)


METHOD = Dreambooth()
