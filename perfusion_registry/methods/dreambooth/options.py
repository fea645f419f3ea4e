"""What a recipe of DreamBooth says, and what prompts may set of its concepts."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from perfusion_registry.methods.changed_modules import ChangeOptions
from perfusion_registry.methods.interface import KeptStep
from perfusion_registry.methods.lora.options import GATED, REACH_SAID, STRENGTH, Reach, Strength
from perfusion_registry.methods.rare_word import (
    RARE,
    RareWord,
    RareWordOptions,
    RareWordRecipe,
    RareWordSection,
)
from perfusion_registry.methods.settings import Setting
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.options import Batch, Every, LearningRate, MaskSource, Steps
from perfusion_registry.recipe.recipe import LearnedSection

NAME = "dreambooth"
FULL = "full"
SETTINGS = (STRENGTH, Setting("reach", Reach, GATED, null=False))

KeptRank = Annotated[
    Annotated[int, Field(ge=1, le=4096)] | Literal["full"],
    Field(
        description="How much of what was learned an artifact keeps: of each layer's difference so many "
        "singular values, `full` all of it."
    ),
]
_TEXT = "Whether the text encoders are learned too, whole."


class TrainSection(RareWordSection):
    """`[train]` of a recipe; left out: of the base's card what is no method's alone, else as diffusers'
    script has it."""

    rank: KeptRank | None = None
    text_encoder: Annotated[bool | None, Field(description=_TEXT)] = None
    learning_rate: LearningRate | None = None

    @model_validator(mode="after")
    def _word_is_learned_once(self) -> Self:
        if self.text_encoder and self.learn_token:
            raise ValueError("`text_encoder` learns all words, `learn_token` one of them: say one of both")
        return self


class TrainOptions(RareWordOptions):
    """Everything that a training may depend on; the defaults are those that diffusers' script is shown
    with, whose loss has no mask, and which keeps its last step."""

    token: RareWord = RARE
    steps: Steps = 400
    batch: Batch = 1
    rank: KeptRank = 32
    text_encoder: Annotated[bool, Field(exclude_if=lambda learned: not learned)] = False
    learning_rate: LearningRate = 5e-6
    mask: MaskSource = "none"
    validate_every: Every = 400


class RenderSection(FileModel):
    """`[render]` of a recipe."""

    strength: Strength | None = None
    reach: Annotated[Reach | None, Field(description=REACH_SAID)] = None


class DrawOptions(ChangeOptions):
    """How it applies in a prompt."""

    reach: Annotated[Reach | None, Field(exclude_if=lambda value: value is None)] = None


class Built(KeptStep):
    """What a build found out. energy: how much of the squared numbers of what was learned the artifact
    keeps."""

    energy: Annotated[float, Field(ge=0, le=1)] = 1.0


class DreamboothConcept(LearnedSection):
    """`[concept]` of a recipe; prompts say a rare word and its supercategory."""

    method: Literal["dreambooth"] = "dreambooth"


class DreamboothRecipe(RareWordRecipe):
    """A recipe whose method is `dreambooth`."""

    concept: DreamboothConcept
    train: TrainSection = TrainSection()
    render: RenderSection = RenderSection()
