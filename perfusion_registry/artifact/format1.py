"""The concept card of format 1, which is read for good: of perfusion on Stable Diffusion, and no other."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from perfusion_registry.methods.perfusion.options import RenderOptions, TrainOptions
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Sha256, Version


class Card1(FileModel):
    """One concept version: what it is, what it was built for and with, and how well the kept step scored.

    family: the base family it fits (K and V widths, text encoder). base, base_revision: the base it was
    trained on. covariance: digest of the C whose metric its target input and dual belong to; concepts compose
    only within one covariance. steps_kept: the training step that validation kept. scores: similarity scores
    of that step by name, such as `image`, `text` and `harmonic`. base_licence: what the base's own card says,
    where it says something. No timestamps and no paths: the same inputs give the same bytes.
    """

    schema_version: Literal[1] = 1
    name: Name
    version: Version
    supercategory: Annotated[str, Field(min_length=1, max_length=64)]
    family: str
    covariance: str
    recipe_digest: Sha256
    base: str
    base_revision: str | None = None
    train: TrainOptions
    render: RenderOptions
    steps_kept: Annotated[int, Field(ge=0)]
    scores: dict[str, float] = Field(default_factory=dict)
    licence: str | None = None
    base_licence: Annotated[str, Field(max_length=200)] | None = None
    authors: tuple[str, ...] = ()
    consent: str | None = None
    description: str | None = None
