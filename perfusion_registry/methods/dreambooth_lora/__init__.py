"""DreamBooth (Ruiz et al., CVPR 2023) with LoRA, as diffusers' script `train_dreambooth_lora.py` does it.

A rare word beside the supercategory, and low-rank changes of all attention of the denoiser. With prior
preservation, pictures that the base draws of the supercategory are learned beside the concept's, so that the
word keeps what it means. What was learned is a LoRA, and is drawn as imported ones are: everywhere, localised
or gated.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from perfusion_registry.errors import PerfError
from perfusion_registry.methods import low_rank
from perfusion_registry.methods.changed_modules import ChangedModules
from perfusion_registry.methods.dreambooth_lora.options import (
    NAME,
    SETTINGS,
    DrawOptions,
    DreamboothLoraRecipe,
    TrainOptions,
)
from perfusion_registry.methods.interface import KeptStep
from perfusion_registry.methods.lora import words

if TYPE_CHECKING:
    from torch import Generator

    from perfusion_registry.base import Base
    from perfusion_registry.edit import CovarianceMetric
    from perfusion_registry.methods.trainable import Trainable
    from perfusion_registry.recipe.options import TrainingOptions


class DreamboothLora(ChangedModules):
    """Both sides: K and V of cross-attention are prompt-side, all other layers network-side."""

    name = NAME
    epoch = 1
    recipe_model = DreamboothLoraRecipe
    tables = MappingProxyType({"train": TrainOptions, "render": DrawOptions, "built": KeptStep})
    draw_model = DrawOptions
    settings = SETTINGS
    tensor_rules = (low_rank.RULE, words.RULE)

    def check_base(self, base: Base, name: str, options: TrainingOptions) -> None:
        """It needs attention as diffusers has it."""
        from perfusion_registry.methods.dreambooth_lora.training import attention_layers

        if not attention_layers(base):
            raise PerfError(
                f"this base has no attention that {name!r} could change",
                hint="learn it by another method, such as perfusion",
            )

    def trainable(
        self,
        base: Base,
        word: str,
        metric: CovarianceMetric | None,
        options: TrainingOptions,
        generator: Generator,
    ) -> Trainable:
        """See `methods.dreambooth_lora.training`."""
        from perfusion_registry.methods.dreambooth_lora.training import DreamboothLoraTrainable

        assert isinstance(options, TrainOptions)
        return DreamboothLoraTrainable(base, options, generator)


METHOD = DreamboothLora()
