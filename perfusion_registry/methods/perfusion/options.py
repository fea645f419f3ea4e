"""Perfusion's options: `[train]` and `[render]` of a recipe, as sections and fully resolved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.options import (
    Bias,
    KeyLock,
    LearningRate,
    RelativeBias,
    Residual,
    Temperature,
    TrainingOptions,
    TrainingSection,
)
from perfusion_registry.recipe.recipe import LearnedSection, Recipe

ResidualRank = Annotated[
    float,
    Field(ge=0, le=1, description="Rank of the residual, as a share of each block's width; 0: no residual."),
]
PresetName = Literal["faithful", "balanced", "editable", "together"]
TrainPresetName = Literal["low-memory"]
SceneLock = Literal["local", "global", "none"]
"""What a prompt may ask for: `none` as well, where a concept's keys were trained."""
_KEYS = "Train the keys instead of locking them to the supercategory's: key lock `none`."
LOW_MEMORY = {"learning_rate_embedding": 0.0, "residual_rank": 0.0}
"""What the preset `low-memory` stands for: o*_V is learned alone, so text encoders are done after once."""
_LOW_MEMORY = "`low-memory` learns the values alone: no embedding, so text encoders can go, and no residual."
_LOCK = "Keys of the concept's word alone, or of the whole prompt, are the supercategory's."


def _unset(value: object) -> bool:
    return value is None


class OneBias(FileModel):
    """What has `bias` or, in its place, `relative_bias`. Where the second is said, the first has no default;
    both are a mistake.
    """

    @model_validator(mode="before")
    @classmethod
    def _one(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("relative_bias") is None:
            return values
        if values.get("bias") is not None:
            raise ValueError("say bias or relative_bias, not both")
        return {**values, "bias": None}


_OwnBias = Annotated[Bias | None, Field(exclude_if=_unset)]
_OwnRelativeBias = Annotated[RelativeBias | None, Field(exclude_if=_unset)]


class TrainSection(TrainingSection):
    """`[train]` of a recipe or of a base's card; left out: the base's, else the paper's.

    preset: stands for what of `LOW_MEMORY` is left out.
    """

    bias: Bias | None = None
    temperature: Temperature | None = None
    learning_rate_output: LearningRate | None = None
    learning_rate_embedding: LearningRate | None = None
    residual_rank: ResidualRank | None = None
    learning_rate_residual: LearningRate | None = None
    trained_keys: Annotated[bool | None, Field(description=_KEYS)] = None
    preset: Annotated[TrainPresetName | None, Field(description=_LOW_MEMORY, exclude_if=_unset)] = None

    @property
    def spelt_out(self) -> Self:
        """Without a preset, what it stands for in its place."""
        if self.preset is None:
            return self
        left_out = {key: value for key, value in LOW_MEMORY.items() if getattr(self, key) is None}
        return self.model_copy(update={**left_out, "preset": None})


class RenderSection(OneBias):
    """`[render]` of a recipe; a key left out means the base's default, else the paper's.

    preset: stands for the bias, as a relative one, and the temperature that are left out, under the recipe's
    own key lock. A global lock without either kind of bias takes the paper's for it.
    """

    bias: Bias | None = None
    relative_bias: _OwnRelativeBias = None
    temperature: Temperature | None = None
    key_lock: Annotated[KeyLock | None, Field(description=_LOCK)] = None
    residual: Residual | None = None
    preset: PresetName | None = None


class TrainOptions(TrainingOptions):
    """Everything a build's training loop may depend on, resolved; the defaults are the paper's (section 5).

    `trained_keys` trains o*_K instead of locking it. `residual_rank` adds a personalised residual to every
    transformer block (0.05 in its paper, at a learning rate of 1e-3); without one an artifact stays tens of
    kilobytes.
    """

    bias: Bias = 0.75
    temperature: Temperature = 0.1
    learning_rate_output: LearningRate = 0.03
    learning_rate_embedding: LearningRate = 0.006
    residual_rank: ResidualRank = 0.0
    learning_rate_residual: LearningRate = 1e-3
    trained_keys: bool = False

    @classmethod
    def of(cls, table: FileModel) -> Self:
        """A table of a concept that is known to be perfusion's."""
        assert isinstance(table, cls)
        return table


class RenderOptions(OneBias):
    """The gate, key lock and strength of the residual that a concept has when a prompt says nothing else.

    bias: None where `relative_bias` stands for it.
    """

    bias: _OwnBias = 0.65
    relative_bias: _OwnRelativeBias = None
    temperature: Temperature = 0.15
    key_lock: KeyLock = "local"
    residual: Residual = 1.0

    @classmethod
    def of(cls, table: FileModel) -> Self:
        """A table of a concept that is known to be perfusion's."""
        assert isinstance(table, cls)
        return table


class DrawOptions(OneBias):
    """The options as they apply in one prompt.

    bias, temperature: beta_j and tau_j of Eq. 4. relative_bias: where it is said, beta_j is that share of the
    similarity of the concept's own word, and `bias` is None. key_lock: `local` takes the concept's keys from
    the supercategory's encoding, `global` takes the keys of the whole prompt from the prompt with the
    supercategory's word in its place, `none` takes the keys that were trained. residual: how strongly its
    personalised residual applies; None where it has none.
    """

    bias: _OwnBias = None
    relative_bias: _OwnRelativeBias = None
    temperature: Temperature
    key_lock: SceneLock
    residual: Residual | None = None


class Built(FileModel):
    """What a build found out and drawing needs.

    covariance: the digest of the C whose metric the target input and its dual belong to; concepts compose
    only within one covariance. step: the training step that was kept. similarity: of the concept's word to
    the target input, in units of its energy.
    """

    covariance: str
    step: Annotated[int, Field(ge=0)]
    similarity: float | None = None


class PerfusionRecipe(Recipe):
    """A recipe whose method is `perfusion`."""

    concept: LearnedSection
    train: TrainSection = TrainSection()
    render: RenderSection = RenderSection()
