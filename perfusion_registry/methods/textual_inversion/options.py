"""Textual inversion's options: `[train]` of a recipe, as a section and resolved. Prompts set nothing."""

from __future__ import annotations

from typing import Literal

from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.options import (
    Batch,
    Every,
    LearningRate,
    MaskSource,
    Steps,
    TrainingOptions,
    TrainingSection,
)
from perfusion_registry.recipe.recipe import LearnedSection, Recipe

NAME = "textual-inversion"


class TrainSection(TrainingSection):
    """`[train]` of a recipe; left out: of the base's card what is no method's alone, else the paper's."""

    learning_rate: LearningRate | None = None


class TrainOptions(TrainingOptions):
    """Everything that a training may depend on; the defaults are the paper's (Section 4), whose loss has no
    mask. It draws no validation pictures; here the kept step is chosen as Perfusion's is.
    """

    steps: Steps = 5000
    batch: Batch = 8
    learning_rate: LearningRate = 5e-3
    mask: MaskSource = "none"
    validate_every: Every = 500


class NoOptions(FileModel):
    """What a prompt may set: nothing."""


class InversionConcept(LearnedSection):
    """`[concept]` of a recipe; its supercategory is the word that the embedding starts from."""

    method: Literal["textual-inversion"] = "textual-inversion"


class InversionRecipe(Recipe):
    """A recipe whose method is `textual-inversion`."""

    concept: InversionConcept
    train: TrainSection = TrainSection()
    render: NoOptions = NoOptions()
