"""Reference images: the pictures that a project's concepts were built from, for contact sheets."""

from __future__ import annotations

from collections.abc import Sequence

from perfusion_registry.build.images import load_image
from perfusion_registry.compose.composition import Composition
from perfusion_registry.errors import PerfError
from perfusion_registry.render.sheet import THUMBS, Reference
from perfusion_registry.reporter import Reporter, Silent
from perfusion_registry.resolve import ProjectFolder, find_images


def references(
    compositions: Sequence[Composition], project: ProjectFolder | None, *, reporter: Reporter | None = None
) -> list[Reference]:
    """Return each concept of some compositions, once, with a few of its reference images.

    A concept that the project has no recipe of, or whose images cannot be read, comes without images: a sheet
    is still worth having. What could not be read is reported as a warning.
    """
    pictures = []
    concepts = {concept.name: concept for one in compositions for concept in one.concepts}
    for concept in concepts.values():
        images = []
        entry = project.manifest.concepts.get(concept.name) if project else None
        if project and entry and entry.recipe:
            try:
                recipe = project.recipe(concept.name)
                path = project.recipe_path(concept.name)
                sources = find_images(
                    path.parent, recipe.concept.images, recipe.concept.masks, where=str(path)
                )
                by_name = sorted(sources, key=lambda source: source.path.name)
                images = [load_image(source.path).pixels for source in by_name[:THUMBS]]
            except PerfError as error:
                problem = f"{error.what} ({error.where})" if error.where else error.what
                (reporter or Silent()).warn(f"the sheet lacks images of {concept.name}: {problem}")
        pictures.append(
            Reference(f"{concept.name}*", f"a {concept.supercategory}, {concept.version}", images)
        )
    return pictures
