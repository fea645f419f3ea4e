"""Options of personalised residuals: by themselves, and the two that perfusion's concepts share with them.

What was learned before there was a rare word has none in its options: the models' defaults are what they were
then, and `resolve_train` gives what the paper has.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from perfusion_registry.base.residual_masks import Mask
from perfusion_registry.methods.rare_word import RareWordOptions, RareWordRecipe, RareWordSection
from perfusion_registry.methods.settings import Setting
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.options import (
    Batch,
    Every,
    LearningRate,
    MaskSource,
    Residual,
    Steps,
)
from perfusion_registry.recipe.recipe import LearnedSection

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
Target = Literal["proj_out", "proj_in", "kv"]
Targets = Annotated[
    tuple[Target, ...],
    AfterValidator(lambda targets: tuple(dict.fromkeys(targets))),
    Field(
        min_length=1,
        description="What learns a residual: the output projections of the blocks (the paper's), their input "
        "projections, keys and values of cross-attention, or several.",
    ),
]
Start = Literal["random", "zero"]
_START = "How B starts: `random`, as A does and as the paper prints it; `zero`: at the base itself."
PAPERS_TARGETS: tuple[Target, ...] = ("proj_out",)

RAMP: Mask = "ramp"
MEDIAN: Mask = "median"
OFF: Mask = "off"
LAG = Setting("lag", Mask, MEDIAN, usual=RAMP, null=False)
"""Where a residual applies (localised attention-guided sampling)."""
_LAG = (
    "`ramp`: where its words are attended to most; `median`: the half of each map where they are, as in the "
    "paper; `off`: everywhere, the paper's normal sampling."
)


class TrainSection(RareWordSection):
    """`[train]` of a recipe; left out: of the base's card what is no method's alone, else the paper's."""

    rank: Rank | None = None
    targets: Targets | None = None
    start: Annotated[Start | None, Field(description=_START)] = None
    learning_rate: LearningRate | None = None


class RenderSection(FileModel):
    """`[render]` of a recipe."""

    residual: Residual | None = None
    lag: Annotated[Mask | None, Field(description=_LAG)] = None


class TrainOptions(RareWordOptions):
    """Everything that a training may depend on; resolved, what a recipe leaves out is the paper's (Section
    4), whose loss has no mask. It draws no validation pictures; here the kept step is chosen as Perfusion's
    is.
    """

    steps: Steps = 150
    batch: Batch = 4
    rank: Rank = 0.05
    targets: Annotated[Targets, Field(exclude_if=lambda targets: targets == PAPERS_TARGETS)] = PAPERS_TARGETS
    start: Annotated[Start, Field(exclude_if=lambda start: start == "zero")] = "zero"
    learning_rate: LearningRate = 1e-3
    mask: MaskSource = "none"
    validate_every: Every = 25


class DrawOptions(FileModel):
    """How strongly the residual applies, and where."""

    residual: Residual = 1.0
    lag: Annotated[Mask, Field(exclude_if=lambda lag: lag == RAMP)] = RAMP


class ResidualsConcept(LearnedSection):
    """`[concept]` of a recipe; prompts say a rare word and its supercategory, the macro class, where
    they call it."""

    method: Literal["residuals"] = "residuals"


class ResidualsRecipe(RareWordRecipe):
    """A recipe whose method is `residuals`."""

    concept: ResidualsConcept
    train: TrainSection = TrainSection()
    render: RenderSection = RenderSection()
