"""Options of personalised residuals: by themselves, and the two that perfusion's concepts share with them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from perfusion_registry.methods.settings import Setting
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.options import (
    Batch,
    Every,
    LearningRate,
    MaskSource,
    Residual,
    Steps,
    TrainingOptions,
    TrainingSection,
)
from perfusion_registry.recipe.recipe import LearnedSection, Recipe

NAME = "residuals"
STRENGTH = Setting("residual", Residual, ".8", usual=1.0)
"""How strongly a residual applies: what a prompt may set of one."""
STRENGTHS = (1.0, 0.8, 1.2, 0.6)
"""What `perf tune` tries where nothing else is asked for, the paper's own first."""
COARSE = (0.4, 0.7, 1.0)
"""What a build tries beside the usual strength."""

Rank = Annotated[
    float, Field(gt=0, le=1, description="Rank of the residual, as a share of each block's width.")
]


class TrainSection(TrainingSection):
    """`[train]` of a recipe; left out: of the base's card what is no method's alone, else the paper's."""

    rank: Rank | None = None
    learning_rate: LearningRate | None = None


class RenderSection(FileModel):
    """`[render]` of a recipe."""

    residual: Residual | None = None


class TrainOptions(TrainingOptions):
    """Everything that a training may depend on; the defaults are the paper's (Section 4), whose loss has no
    mask. It draws no validation pictures; here the kept step is chosen as Perfusion's is.
    """

    steps: Steps = 150
    batch: Batch = 4
    rank: Rank = 0.05
    learning_rate: LearningRate = 1e-3
    mask: MaskSource = "none"
    validate_every: Every = 25


class DrawOptions(FileModel):
    """How strongly the residual applies, where a concept's words are attended to."""

    residual: Residual = 1.0


class ResidualsConcept(LearnedSection):
    """`[concept]` of a recipe; prompts say its supercategory, the macro class, where they call it."""

    method: Literal["residuals"] = "residuals"


class ResidualsRecipe(Recipe):
    """A recipe whose method is `residuals`."""

    concept: ResidualsConcept
    train: TrainSection = TrainSection()
    render: RenderSection = RenderSection()
