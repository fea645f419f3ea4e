"""Options of recipes that are not one method's alone: those of any training, and those of a gate."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, AliasChoices, ConfigDict, Field, model_validator

from perfusion_registry.recipe.model import FileModel

TEMPLATES = (
    "a photo of a {}",
    "a good photo of a {}",
    "the photo of a {}",
    "a good photo of the {}",
    "image of a {}",
    "image of the {}",
    "A photograph of {}",
    "A {} shown in a photo",
    "A photo of {}",
)
"""The training prompts of the paper's Appendix G; `{}` stands for the concept."""

VALIDATION_PROMPTS = (
    "a photo of a {}",
    "a {} in the snow",
    "a {} on the beach",
    "a {} in the forest",
    "a {} on a table",
    "a {} by the fire",
    "a {} in a garden",
    "a {} at night",
)
"""Eight prompts, from neutral to scenes, that score the steps of a build (the paper: 8 every 25 steps)."""


def _one_concept(prompt: str) -> str:
    if prompt.count("{}") != 1:
        raise ValueError(f"`{prompt}` needs `{{}}` exactly once, where the concept goes")
    return prompt


Bias = Annotated[float, Field(ge=0, le=2, description="Gate bias (beta): higher is less concept.")]
_RELATIVE = (
    "Gate bias as a share of the similarity of the concept's own word: at 1 its gate is half open there."
)
RelativeBias = Annotated[float, Field(ge=0, le=2, description=_RELATIVE)]
Temperature = Annotated[float, Field(gt=0, le=10, description="Gate temperature (tau): lower is sharper.")]
Template = Annotated[
    str, AfterValidator(_one_concept), Field(max_length=400, json_schema_extra={"pattern": r"\{\}"})
]
Templates = Annotated[
    tuple[Template, ...], Field(min_length=1, max_length=256, description="Prompts; `{}` is the concept.")
]
Steps = Annotated[int, Field(ge=1, le=100_000, description="Training steps at most.")]
Batch = Annotated[int, Field(ge=1, le=1024, description="Samples per step.")]
LearningRate = Annotated[
    float, Field(ge=0, le=10, description="Of Adam; 0 leaves the parameter as it starts.")
]
Sizes = Annotated[
    tuple[Annotated[float, Field(ge=0.1, le=1)], ...],
    Field(min_length=1, max_length=16, description="The sizes at which each image is shown, of the frame."),
]
PairPrompts = Annotated[
    tuple[Template, ...],
    Field(max_length=64, description="Prompts that name another thing beside the concept, `{}`."),
]
PairShare = Annotated[float, Field(gt=0, le=1, description="Of the samples, how many are of pairs.")]
PriorPictures = Annotated[
    int,
    Field(
        ge=0,
        le=10_000,
        description="Prior preservation: so many pictures the base draws of the supercategory, to be learned "
        "beside the concept's.",
    ),
]
PriorWeight = Annotated[float, Field(gt=0, le=100, description="Of the loss on prior pictures.")]
Residual = Annotated[float, Field(ge=0, le=4, description="Strength of the concept's residual.")]
Every = Annotated[int, Field(ge=1, le=100_000, description="Steps between validations.")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
SamplingSteps = Annotated[int, Field(ge=1, le=1000, description="Denoising steps of a validation image.")]
DrawingSteps = Annotated[int, Field(ge=1, le=1000)]
SchedulerName = Annotated[str, Field(pattern=r"^(ddim|dpmsolver|euler|[A-Z][A-Za-z0-9]*Scheduler)$")]
Side = Annotated[int, Field(ge=8, le=8192, multiple_of=8)]
Guidance = Annotated[float, Field(ge=0, le=100, description="Classifier-free guidance scale.")]
MaskSource = Literal["auto", "attention", "clipseg", "files", "none"]
KeyLock = Literal["local", "global"]
_MASK = (
    "What keeps the loss on the concept: `files` beside the images, `clipseg` or the base's own `attention` "
    "to the supercategory, `none`; `auto` takes the first that is at hand."
)
_FLIP = "Whether mirrored images look right; false for asymmetric things."

_PAIR_PROMPTS, _PAIR_SHARE = (
    AliasChoices("pair_prompts", "company"),
    AliasChoices("pair_share", "company_share"),
)
"""The second names are older; recipes and the cards of bases may still say them."""


class TrainingSection(FileModel):
    """What `[train]` of a recipe may say whatever its method; left out: the base's, else the method's."""

    steps: Steps | None = None
    batch: Batch | None = None
    flip: Annotated[bool | None, Field(description=_FLIP)] = None
    sizes: Sizes | None = None
    pair_prompts: Annotated[PairPrompts | None, Field(validation_alias=_PAIR_PROMPTS)] = None
    pair_share: Annotated[PairShare | None, Field(validation_alias=_PAIR_SHARE)] = None
    mask: Annotated[MaskSource | None, Field(description=_MASK)] = None
    validate_every: Every | None = None
    seed: Seed | None = None
    templates: Templates | None = None
    validation_prompts: Templates | None = None
    validation_steps: SamplingSteps | None = None
    validation_guidance: Guidance | None = None


_SHARE = 0.5


class TrainingOptions(FileModel):
    """What the training of any method may depend on, resolved; a method's own options come beside these.

    templates, validation_prompts and pair_prompts hold `{}` once each, where the concept's word goes. `mask`
    says where the loss weights come from, `flip` turns the p = 0.5 mirror on, `sizes` shows every image at
    each of them. `pair_prompts` puts the images into the base's own pictures of these prompts, for
    `pair_share` of the samples; keys and cards spell these two `company` and `company_share`, as the first
    artifacts did.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    steps: Steps = 400
    batch: Batch = 16
    flip: bool = True
    sizes: Sizes = (1.0,)
    # Older than these are many artifacts; at their defaults they are in no key and on no card.
    pair_prompts: Annotated[
        PairPrompts,
        Field(
            validation_alias=AliasChoices("company", "pair_prompts"),
            serialization_alias="company",
            exclude_if=lambda value: not value,
        ),
    ] = ()
    pair_share: Annotated[
        PairShare,
        Field(
            validation_alias=AliasChoices("company_share", "pair_share"),
            serialization_alias="company_share",
            exclude_if=lambda value: value == _SHARE,
        ),
    ] = _SHARE
    mask: MaskSource = "auto"
    validate_every: Every = 25
    seed: Seed = 0
    templates: Templates = TEMPLATES
    validation_prompts: Templates = VALIDATION_PROMPTS
    validation_steps: SamplingSteps = 20
    validation_guidance: Guidance = 6.0

    @property
    def prompts(self) -> tuple[str, ...]:
        """Every prompt that the training reads or draws."""
        return (*self.templates, *self.validation_prompts, *self.pair_prompts)


class PriorSection(TrainingSection):
    """The same of methods that can preserve what the base knows of the supercategory."""

    with_priors: ClassVar[bool] = False
    """Whether there are prior pictures where a recipe says nothing."""
    prior_pictures: PriorPictures | None = None
    prior_weight: PriorWeight | None = None

    @model_validator(mode="after")
    def _something_is_weighed(self) -> Self:
        pictures = self.with_priors if self.prior_pictures is None else self.prior_pictures
        if self.prior_weight is not None and not pictures:
            raise ValueError("`prior_weight` weighs prior pictures, and there are none: say `prior_pictures`")
        return self


class PriorOptions(TrainingOptions):
    """prior_pictures: the base's own of the plain supercategory, learned beside the concept's, one for each,
    with `prior_weight` times their loss."""

    prior_pictures: Annotated[PriorPictures, Field(exclude_if=lambda count: not count)] = 0
    prior_weight: Annotated[PriorWeight, Field(exclude_if=lambda weight: weight == 1)] = 1.0
