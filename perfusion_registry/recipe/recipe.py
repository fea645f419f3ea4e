"""A recipe: the TOML file that declares how one concept is built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SerializeAsAny

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.document import line_of, parse_toml, read_text, validate
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Version

DEFAULT_METHOD = "perfusion"
"""What a recipe means that names no method, and what every file of format 1 is of."""


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
MethodName = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64, description="How it is learned and drawn."),
]
Word = Annotated[str, AfterValidator(_word), Field(min_length=1, max_length=64)]
Line = Annotated[str, Field(max_length=2000)]


class ConceptSection(FileModel):
    """`[concept]`: what it is, from which images, and what a reader of the artifact should know.

    method: the name of the method that makes it. images and masks are files or globs relative to the
    recipe's folder. A mask has the stem of its image. A method's own subclass says what else there is, and
    what has to be said.
    """

    name: Name
    version: Version
    # In no key and on no card where it is what files of format 1 are of.
    method: Annotated[MethodName, Field(exclude_if=lambda name: name == DEFAULT_METHOD)] = DEFAULT_METHOD
    supercategory: Word | None = None
    images: Patterns = ()
    masks: Patterns = ()
    licence: Line | None = None
    authors: tuple[Line, ...] = ()
    consent: Annotated[
        Line | None, Field(description="Who agreed to be shown, when a person or a private thing is.")
    ] = None
    description: Line | None = None
    preview: Annotated[
        Line | None,
        Field(
            description="A picture beside the recipe, shown to others. No build reads it.",
            exclude_if=lambda name: name is None,
        ),
    ] = None


class LearnedSection(ConceptSection):
    """`[concept]` of a method that learns from images."""

    supercategory: Word
    images: Annotated[Patterns, Field(min_length=1)]


class Recipe(FileModel):
    """How one concept is built. A method's own subclass says what its `[train]` and `[render]` may hold."""

    concept: ConceptSection
    train: SerializeAsAny[FileModel] = FileModel()
    render: SerializeAsAny[FileModel] = FileModel()


FindRecipe = Callable[[str], type[Recipe]]
"""The recipe model of a method, by the method's name; raises PerfError where there is no such method."""


def read_recipe(path: Path, find: FindRecipe) -> Recipe:
    """Read and check a recipe; every mistake in the file is in the one PerfError that is raised."""
    text = read_text(path, "recipe")
    return checked_recipe(parse_toml(text, str(path), "recipe"), find, text=text, where=str(path))


def checked_recipe(data: dict[str, Any], find: FindRecipe, *, text: str, where: str) -> Recipe:
    """Check parsed TOML as a recipe of the method that it names; `text` is searched for the lines of
    mistakes.
    """
    concept = data.get("concept")
    method = concept.get("method", DEFAULT_METHOD) if isinstance(concept, dict) else DEFAULT_METHOD
    if not isinstance(method, str):  # what it is instead is told with all other mistakes
        method = DEFAULT_METHOD
    try:
        model = find(method)
    except PerfError as error:
        line = line_of(text, ("concept", "method"))
        place = f"{where}{f':{line}' if line else ''}, concept.method"
        raise PerfError(error.what, where=place, hint=error.hint) from error
    return validate(data, model, text=text, where=where, kind="recipe")
