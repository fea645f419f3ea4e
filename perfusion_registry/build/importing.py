"""A concept that is made of a file that somebody has: its artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfusion_registry.artifact import Artifact, ConceptCard
from perfusion_registry.artifact.card import FIRST_PERF, Imported
from perfusion_registry.errors import PerfError
from perfusion_registry.file_digests import sha256_of
from perfusion_registry.methods.table import find_method
from perfusion_registry.recipe import Recipe
from perfusion_registry.recipe.model import FileModel

if TYPE_CHECKING:
    from perfusion_registry.base import BaseDescription


def import_concept(
    recipe: Recipe,
    folder: Path,
    base: BaseDescription,
    train: FileModel,
    render: FileModel,
    *,
    digest: str,
    where: str,
) -> Artifact:
    """The artifact of a recipe that names a file to import. Importing again gives the same artifact.

    folder: of the recipe. train, render: its options, resolved. digest: the recipe digest, for the card.
    where: names the recipe in errors. Raises PerfError for a file that is gone, or has other bytes than the
    recipe says, and for one that does not fit the base.
    """
    concept, method = recipe.concept, find_method(recipe.concept.method)
    said = method.source_file(recipe)
    assert said is not None
    file = folder / said.path
    _check(concept.name, file, said.sha256, where)
    made = method.imported(file, base, concept.name)
    card = ConceptCard(
        requires_perf=FIRST_PERF,
        method=method.name,
        name=concept.name,
        version=concept.version,
        architecture=base.architecture,
        family=base.family,
        recipe_digest=digest,
        base=base.repo,
        base_revision=base.revision,
        imported=Imported(file=file.name, sha256=said.sha256, size=file.stat().st_size, dialect=made.dialect),
        train=train,
        render=render,
        built=made.built,
        vectors=made.vectors,
        **words_of(recipe),
    )
    return Artifact(card, made.tensors)


def words_of(recipe: Recipe) -> dict[str, Any]:
    """What the card of an imported concept says of words: its supercategory and its own, as its recipe
    does."""
    concept = recipe.concept
    return {"supercategory": concept.supercategory, "word": getattr(concept, "word", None)}


def _check(name: str, file: Path, sha256: str, where: str) -> None:
    if not file.is_file():
        raise PerfError(
            f"the file that `{name}` is imported from is not there: {file}",
            where=f"{where}, concept.file",
            hint="put it back, or name where it is; who has the artifact needs it no more (`perf sync`)",
        )
    digest = sha256_of(file)
    if digest != sha256:
        raise PerfError(
            f"the file that `{name}` is imported from is another than its recipe says "
            f"({digest[:12]}, not {sha256[:12]})",
            where=f"{where}, concept.sha256",
            hint=f"put the old one back, or `perf remove {name}`, delete its recipe and import the new one",
        )
