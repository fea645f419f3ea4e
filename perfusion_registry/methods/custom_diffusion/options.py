"""What a recipe of Custom Diffusion says, and what prompts may set of its concepts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from perfusion_registry.methods.changed_modules import ChangeOptions
from perfusion_registry.methods.interface import KeptStep
from perfusion_registry.methods.lora.options import EVERYWHERE, STRENGTH, Strength
from perfusion_registry.methods.rare_word import RareWord, RareWordOptions, RareWordRecipe, RareWordSection
from perfusion_registry.methods.settings import Setting
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.options import Batch, Every, LearningRate, MaskSource, PriorPictures, Steps
from perfusion_registry.recipe.recipe import LearnedSection

NAME = "custom-diffusion"
TOKEN = "ktn"
"""Where the authors' code starts its modifier token."""
MERGED = "merged"
PRIOR_PICTURES = 200

Reach = Literal["everywhere", "merged", "gated"]
_REACH = (
    "`everywhere`: at all words, as learned; `merged`: with the change that gives its words what was learned "
    "and all else as little as can be, solved for all such concepts of a prompt at once; `gated`: at its own "
    "words alone. Left out: everywhere, beside other things merged."
)
SETTINGS = (STRENGTH, Setting("reach", Reach, EVERYWHERE, null=False))

Compressed = Annotated[
    float,
    Field(
        gt=0,
        le=1,
        description="Keep the greatest singular values of each change, to this share of their sum; 1: all.",
    ),
]


class TrainSection(RareWordSection):
    """`[train]` of a recipe; left out: of the base's card what is no method's alone, else the paper's."""

    with_priors = True
    learning_rate: LearningRate | None = None
    compressed: Compressed | None = None


class TrainOptions(RareWordOptions):
    """Everything that a training may depend on; the defaults are the paper's (Section 4), whose loss has no
    mask."""

    token: RareWord = TOKEN
    learn_token: bool = True
    prior_pictures: PriorPictures = PRIOR_PICTURES
    steps: Steps = 250
    batch: Batch = 8
    learning_rate: LearningRate = 8e-5
    compressed: Annotated[Compressed, Field(exclude_if=lambda share: share == 1)] = 1.0
    mask: MaskSource = "none"
    validate_every: Every = 50


class RenderSection(FileModel):
    """`[render]` of a recipe."""

    strength: Strength | None = None
    reach: Annotated[Reach | None, Field(description=_REACH)] = None


class DrawOptions(ChangeOptions):
    """How it applies in a prompt."""

    reach: Annotated[Reach | None, Field(exclude_if=lambda value: value is None)] = None


class Built(KeptStep):
    """What a build found out. covariance: the digest of C, in whose metric it is merged."""

    covariance: Annotated[str, Field(min_length=1, max_length=200)]


class CustomConcept(LearnedSection):
    """`[concept]` of a recipe; prompts say a rare word, which is learned, and its supercategory."""

    method: Literal["custom-diffusion"] = "custom-diffusion"


class CustomRecipe(RareWordRecipe):
    """A recipe whose method is `custom-diffusion`."""

    concept: CustomConcept
    train: TrainSection = TrainSection()
    render: RenderSection = RenderSection()
