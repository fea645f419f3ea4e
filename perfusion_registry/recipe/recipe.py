"""A recipe: the TOML file that declares how one concept is built."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from perfusion_registry.recipe.document import read_model
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Version
from perfusion_registry.recipe.options import RenderSection, TrainSection


def _pattern(text: str) -> str:
    if not text.strip():
        raise ValueError("an empty pattern matches nothing")
    if "\\" in text:
        raise ValueError(f"`{text}`: write `/` between folders, on every system")
    return text


def _word(text: str) -> str:
    if not text.strip() or text != text.strip():
        raise ValueError("a supercategory is one plain word such as `teddy`")
    if any(mark in text for mark in "*{}\\\n"):
        raise ValueError(
            f"`{text}` is not a plain word: `*`, `{{`, `}}` and `\\` belong to the prompt grammar"
        )
    return text


Pattern = Annotated[str, AfterValidator(_pattern), Field(description="A file or glob beside the recipe.")]
Patterns = Annotated[tuple[Pattern, ...], Field(max_length=1000)]
Word = Annotated[str, AfterValidator(_word), Field(min_length=1, max_length=64)]
Line = Annotated[str, Field(max_length=2000)]


class ConceptSection(FileModel):
    """`[concept]`: what is learned, from which images, and what a reader of the artifact should know.

    images and masks are files or globs relative to the recipe's folder. A mask has the stem of its image.
    """

    name: Name
    version: Version
    supercategory: Word
    images: Annotated[Patterns, Field(min_length=1)]
    masks: Patterns = ()
    licence: Line | None = None
    authors: tuple[Line, ...] = ()
    consent: Annotated[
        Line | None, Field(description="Who agreed to be shown, when a person or a private thing is.")
    ] = None
    description: Line | None = None


class Recipe(FileModel):
    """How one concept is built."""

    concept: ConceptSection
    train: TrainSection = TrainSection()
    render: RenderSection = RenderSection()


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe; every mistake in the file is in the one PerfError that is raised."""
    return read_model(path, Recipe, "recipe")
