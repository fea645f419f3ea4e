"""Textual inversion's options: `[train]` of a recipe, as a section and resolved. Prompts set nothing."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Sha256
from perfusion_registry.recipe.options import (
    Batch,
    Every,
    LearningRate,
    MaskSource,
    Steps,
    TrainingOptions,
    TrainingSection,
)
from perfusion_registry.recipe.recipe import ConceptSection, Recipe

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


class Untrained(FileModel):
    """`train` and `built` of the card of one that was imported: nothing, since it was not trained here."""


class InversionConcept(ConceptSection):
    """`[concept]` of a recipe; its supercategory is the word that the embedding starts from.

    file: that it is imported from, from the recipe's folder, instead of being learned. sha256: of its bytes.
    images are then only to compare its pictures with, and without a supercategory it is a style.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": ["supercategory", "images"]}, {"required": ["file", "sha256"]}]
        }
    )

    method: Literal["textual-inversion"] = "textual-inversion"
    file: Annotated[
        str | None, Field(min_length=1, max_length=1000, exclude_if=lambda file: file is None)
    ] = None
    sha256: Annotated[Sha256 | None, Field(exclude_if=lambda sha256: sha256 is None)] = None

    @model_validator(mode="after")
    def _learned_or_imported(self) -> Self:
        if (self.file is None) != (self.sha256 is None):
            raise ValueError("`file` and `sha256` say together what it is imported from")
        if self.file is None and self.supercategory is None:
            raise ValueError("`supercategory` is missing, the word that its embedding starts from")
        if self.file is None and not self.images:
            raise ValueError("`images` are missing, which it is learned from, or the `file` of one to import")
        return self


class InversionRecipe(Recipe):
    """A recipe whose method is `textual-inversion`."""

    concept: InversionConcept
    train: TrainSection = TrainSection()
    render: NoOptions = NoOptions()

    @model_validator(mode="after")
    def _nothing_to_train(self) -> Self:
        if self.concept.file is not None and self.train.model_dump(exclude_none=True):
            raise ValueError("`[train]` says how it is learned, and it is imported from a file")
        return self
