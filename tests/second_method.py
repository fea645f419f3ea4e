"""A method of somebody else that can be drawn, with settings of its own: a word, blended with another.

A concept is one learned token, and a prompt says how far it stands from its supercategory's, and on which
side. It is installed as another distribution would be, by an entry point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from perfusion_registry.base import Base
from perfusion_registry.methods.contribution import Contribution
from perfusion_registry.methods.embeddings import embeddings_for, word_embeddings
from perfusion_registry.methods.interface import KeptStep
from perfusion_registry.methods.prompts import TARGET_PROMPT, pieces
from perfusion_registry.methods.settings import Setting, Value
from perfusion_registry.methods.table import ENTRY_POINTS
from perfusion_registry.methods.textual_inversion import TextualInversion
from perfusion_registry.methods.textual_inversion.options import TrainOptions, TrainSection
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.recipe import Recipe
from tests.distribution import install

Strength = Annotated[float, Field(ge=0, le=3)]
Haze = Annotated[float, Field(ge=0, le=1)]
Patience = Annotated[int, Field(ge=1, le=9)]
Side = Literal["near", "far"]


class BlendTrainSection(TrainSection):
    """`[train]` of a recipe."""

    patience: Patience | None = None


class BlendTrainOptions(TrainOptions):
    """With an option that no other method has; it changes nothing but keys."""

    patience: Patience = 3


class BlendSection(FileModel):
    """`[render]` of a recipe."""

    strength: Strength | None = None
    haze: Haze | None = None
    on_side: Side | None = None


class BlendOptions(FileModel):
    """How far from the word, with how much noise, and on which side of it."""

    strength: Strength = 1.0
    haze: Haze = 0.0
    on_side: Side = "near"


class BlendRecipe(Recipe):
    """A recipe whose method is `blend`."""

    train: BlendTrainSection = BlendTrainSection()
    render: BlendSection = BlendSection()


class Blend(TextualInversion):
    """Learned as textual inversion learns, drawn with settings."""

    name = "blend"
    recipe_model = BlendRecipe
    tables = MappingProxyType({"train": BlendTrainOptions, "render": BlendOptions, "built": KeptStep})
    draw_model = BlendOptions
    settings = (
        Setting("strength", Strength, "1.5"),
        Setting("haze", Haze, ".2", usual=0.0),
        Setting("side", Side, "far", field="on_side", usual="near"),
    )

    def resolve_render(self, recipe: Recipe, base_defaults: Mapping[str, Any]) -> Any:
        """As the recipe has it."""
        return BlendOptions.model_validate(recipe.render.model_dump(exclude_none=True))

    def search_space(
        self, name: str, train: FileModel, now: FileModel, choices: Mapping[str, Sequence[Value]]
    ) -> list[FileModel]:
        """All strengths on both sides."""
        return [
            now.model_copy(update={"strength": strength, "on_side": side})
            for side in choices.get("on_side", ("near", "far"))
            for strength in choices.get("strength", (0.5, 1.0))
        ]

    def contribution(
        self,
        base: Base,
        tensors: Mapping[str, Tensor],
        name: str,
        word: str,
        train: FileModel,
        draw: FileModel,
    ) -> Contribution:
        """word + (learned - word) * strength, mirrored on the far side, with haze."""
        assert isinstance(draw, BlendOptions)
        here = word_embeddings(base, base.tokenise(pieces(TARGET_PROMPT, word, spelled=True)))
        there = embeddings_for(base, tensors, name)
        far = -1 if draw.on_side == "far" else 1
        noise = torch.Generator().manual_seed(0)
        return Contribution(
            tuple(
                a + far * draw.strength * (b - a) + draw.haze * torch.randn(a.shape, generator=noise)
                for a, b in zip(here, there, strict=True)
            )
        )


METHOD = Blend()


def install_blend(site: Path) -> None:
    """Lay the distribution out that brings the method."""
    text = "from tests.second_method import METHOD as METHOD\n"
    install(site, "perf-blend", "perf_blend", text, {"blend": "perf_blend:METHOD"}, group=ENTRY_POINTS)
