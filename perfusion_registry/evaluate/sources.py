"""Sources: a suite's concepts with the bytes of their images, from a world's cast or from recipes."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfusion_registry.build.images import load_image, load_mask, open_picture
from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.metrics import USUAL, world
from perfusion_registry.methods.files import read_recipe, recipe_section, train_section
from perfusion_registry.methods.table import find_method, recipe_model
from perfusion_registry.recipe import Recipe
from perfusion_registry.recipe.recipe import DEFAULT_METHOD, LearnedSection
from perfusion_registry.resolve import find_images
from perfusion_registry.suggestions import did_you_mean

if TYPE_CHECKING:
    from perfusion_registry.evaluate.suite import Suite, SuiteConcept, Variant


_SCHEDULE = ("steps", "batch", "validate_every")


@dataclass(frozen=True)
class Source:
    """A concept to build. images, masks: the files' bytes. cast: who of its world's cast it is, where it is
    one. path: of its recipe, where it has a file of one. nearest: the noun that is nearest to its images,
    where some variant asks for it.
    """

    name: str
    group: str
    recipe: Recipe
    images: tuple[bytes, ...]
    masks: tuple[bytes | None, ...]
    cast: str | None
    path: Path | None = None
    world: str = USUAL
    nearest: str | None = None

    @property
    def supercategory(self) -> str:
        """The plain word that it is a kind of; of a style, its name."""
        return self.recipe.concept.supercategory or self.name

    @property
    def image_digests(self) -> tuple[str, ...]:
        """The SHA-256 of each image."""
        return tuple(hashlib.sha256(image).hexdigest() for image in self.images)

    @property
    def digests(self) -> tuple[str, ...]:
        """The SHA-256 of what it is made of: of each image, or of the file that it is imported from."""
        file = find_method(self.recipe.concept.method).source_file(self.recipe)
        if file is not None:
            return (file.sha256,)
        return self.image_digests

    def under(self, variant: Variant, suite: Suite) -> Source:
        """The source as a variant takes it: by its method, with fewer images, another supercategory, other
        train options.

        The suite's options go below the recipe's, and those below the variant's; of each it takes what its
        method has, and of a recipe of another method not how long that trains.
        """
        method, recipe = variant.learned_by or self.recipe.concept.method, self.recipe
        if method == recipe.concept.method and find_method(method).source_file(recipe) is not None:
            return self
        known = train_section(method)
        own = recipe.train.model_dump(exclude_none=True)
        if method != recipe.concept.method:
            own = {key: value for key, value in own.items() if key not in _SCHEDULE}
            fields = recipe_section(method, "concept").model_fields
            said = recipe.concept.model_dump(exclude={"file", "sha256"})
            concept = {key: value for key, value in said.items() if key in fields} | {"method": method}
            recipe = recipe_model(method).model_validate({"concept": concept})
        section = recipe.concept
        word = self.nearest if variant.nearest_word else variant.supercategory
        if word is not None:
            section = section.model_copy(update={"supercategory": word})
        places: tuple[dict[str, Any], ...] = (
            suite.train.model_dump(exclude_none=True),
            {"pair_prompts": suite.pair_prompts_of(self.group)} if variant.pairs else {},
            own,
            variant.train.model_dump(exclude_none=True),
        )
        given = {key: value for place in places for key, value in place.items() if key in known.model_fields}
        recipe = recipe.model_copy(update={"concept": section, "train": known(**given)})
        count = variant.images or len(self.images)
        return replace(self, recipe=recipe, images=self.images[:count], masks=self.masks[:count])


def sources(suite: Suite, where: Path, drawn: str = USUAL) -> dict[str, Source]:
    """The concepts of a suite by name. where: the suite's file, beside which recipes are looked for. drawn:
    the world whose cast it means, by its name.

    Raises PerfError for somebody who is not of the cast, and for recipes and images that cannot be read.
    """
    for concept in suite.concepts:
        _check_cast(concept, where, drawn)
    every = [
        _of_recipe(concept, where) if concept.recipe else _of_cast(concept, drawn)
        for concept in suite.concepts
    ]
    return {source.name: replace(source, world=drawn) for source in every}


def _check_cast(concept: SuiteConcept, where: Path, drawn: str) -> None:
    if concept.cast is None:
        return
    cast = world(drawn).cast
    if concept.cast not in cast:
        raise PerfError(
            f"there is no {concept.cast!r} in {world(drawn).name}'s cast",
            where=f"{where}, concept {concept.name}",
            hint=did_you_mean(concept.cast, cast, f"its members are {', '.join(cast)}"),
        )


def _of_cast(concept: SuiteConcept, drawn: str) -> Source:
    from PIL import Image

    assert concept.cast is not None
    images = []
    for picture in world(drawn).images(concept.cast):
        file = io.BytesIO()
        Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy()).save(file, "PNG")
        images.append(file.getvalue())
    section = LearnedSection(
        name=concept.name,
        version="1.0.0",
        supercategory=world(drawn).supercategory(concept.cast),
        images=(f"{concept.cast}/*.png",),
    )
    return Source(
        concept.name,
        concept.group,
        recipe_model(DEFAULT_METHOD)(concept=section),
        tuple(images),
        (None,) * len(images),
        concept.cast,
    )


def _of_recipe(concept: SuiteConcept, where: Path) -> Source:
    assert concept.recipe is not None
    path = where.parent / concept.recipe
    if not path.is_file():
        raise PerfError(
            f"there is no recipe {concept.recipe!r} beside the suite",
            where=f"{where}, concept {concept.name}: {path}",
            hint="`recipe` is a path from the suite's own folder; `perf add` writes recipes",
        )
    recipe = read_recipe(path)
    if recipe.concept.name != concept.name:
        raise PerfError(
            f"the suite calls it {concept.name!r}, its recipe {recipe.concept.name!r}",
            where=f"{where}, concept {concept.name}: {path}",
            hint="give it the recipe's name in the suite, or name another recipe",
        )
    given = recipe.concept
    pictures = find_images(path.parent, given.images, given.masks, where=str(path), opened=open_picture)
    try:
        images = tuple(image.path.read_bytes() for image in pictures)
        masks = tuple(image.mask.read_bytes() if image.mask else None for image in pictures)
    except OSError as error:
        raise PerfError(f"an image cannot be read: {error.strerror}", where=str(error.filename)) from error
    for file, image, mask in zip(pictures, images, masks, strict=True):  # told before hours of work
        loaded = load_image(image, str(file.path))
        if mask is not None:
            load_mask(mask, loaded, str(file.mask))
    if not images:
        raise PerfError(
            f"{concept.name!r} has no images that its pictures could be compared with",
            where=f"{path}, concept.images",
            hint="name some; an imported concept is not learned from them",
        )
    return Source(concept.name, concept.group, recipe, images, masks, concept.cast, path)
