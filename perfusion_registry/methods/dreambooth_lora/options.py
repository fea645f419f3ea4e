"""What a recipe of DreamBooth with LoRA says, and what prompts may set of its concepts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from perfusion_registry.methods.changed_modules import ChangeOptions
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

NAME = "dreambooth-lora"
SETTINGS = (STRENGTH, Setting("reach", Reach, GATED, null=False))

LoraRank = Annotated[int, Field(ge=1, le=1024, description="Rank of the change of each layer.")]


class TrainSection(RareWordSection):
    """`[train]` of a recipe; left out: of the base's card what is no method's alone, else as diffusers'
    script has it."""

    rank: LoraRank | None = None
    learning_rate: LearningRate | None = None


class TrainOptions(RareWordOptions):
    """Everything that a training may depend on; the defaults are those that diffusers' script is shown
    with, whose loss has no mask."""

    token: RareWord = RARE
    steps: Steps = 500
    batch: Batch = 1
    rank: LoraRank = 4
    learning_rate: LearningRate = 1e-4
    mask: MaskSource = "none"
    validate_every: Every = 100


class RenderSection(FileModel):
    """`[render]` of a recipe."""

    strength: Strength | None = None
    reach: Annotated[Reach | None, Field(description=REACH_SAID)] = None


class DrawOptions(ChangeOptions):
    """How it applies in a prompt."""

    reach: Annotated[Reach | None, Field(exclude_if=lambda value: value is None)] = None


class DreamboothLoraConcept(LearnedSection):
    """`[concept]` of a recipe; prompts say a rare word and its supercategory."""

    method: Literal["dreambooth-lora"] = "dreambooth-lora"


class DreamboothLoraRecipe(RareWordRecipe):
    """A recipe whose method is `dreambooth-lora`."""

    concept: DreamboothLoraConcept
    train: TrainSection = TrainSection()
    render: RenderSection = RenderSection()
