"""`import`: a LoRA or a textual inversion that somebody has becomes a concept: its recipe, its artifact, and
its place in the lockfile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from perfusion_registry.errors import PerfError
from perfusion_registry.file_digests import sha256_of
from perfusion_registry.methods.files import edited_models, edited_schema
from perfusion_registry.methods.importing import said_in
from perfusion_registry.methods.interface import Examined
from perfusion_registry.methods.table import importing_method, recipe_model
from perfusion_registry.operations.add import new_place
from perfusion_registry.operations.build import BuildOptions, build
from perfusion_registry.operations.pictures import patterns_of
from perfusion_registry.operations.result import Result, left_out_if_none, named
from perfusion_registry.operations.supercategory import check_supercategory
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import canonical_name
from perfusion_registry.recipe.document import parse_toml, read_text
from perfusion_registry.recipe.editing import add_concept, new_recipe
from perfusion_registry.recipe.name import Name, Sha256, Version
from perfusion_registry.recipe.recipe import MethodName, checked_recipe
from perfusion_registry.recipe.schemas import place_schemas
from perfusion_registry.recipe.writing import make_folder, replace_text


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What to import. file: a safetensors file of a LoRA or a textual inversion, or peft's folder.
    supercategory: the plain word that it is a kind of; None for a style. word: what its calls become; None
    for what the file says of itself, else the supercategory. strength: in prompts that say none. A textual
    inversion has neither.
    """

    file: Path
    name: str
    supercategory: str | None = None
    word: str | None = None
    version: str = "1.0.0"
    strength: float | None = None


class ImportResult(Result):
    """`perf import`. word: what its calls become; None for its supercategory, or, of a style, for nothing.
    vectors: how many tokens of its own they become instead, of a textual inversion."""

    schema_: Literal["perf.import/1"] = named("perf.import/1")
    name: Name
    version: Version
    recipe: str
    method: MethodName
    dialect: str
    supercategory: str | None = left_out_if_none()
    word: str | None = left_out_if_none()
    vectors: int | None = left_out_if_none()
    sha256: Sha256
    size: int


def import_(workspace: Workspace, options: ImportOptions) -> ImportResult:
    """Write a recipe that names the file by path and hash, build its artifact and lock it.

    Raises PerfError, and writes nothing, for a file that cannot be read or does not fit the project's base.
    """
    project, name = workspace.read(), canonical_name(options.name)
    recipe, base = new_place(project, name), workspace.base(project)
    if options.supercategory is not None:
        check_supercategory(base, options.supercategory)
    method, found = importing_method(options.file, base)
    if not method.phrases:
        _require_no_words(options)
    word = _word(workspace, found) if options.word is None and method.phrases else options.word
    _warn_of_unsaid(workspace, found, word or options.supercategory or "")
    schemas = place_schemas(project.root, edited_models(), edited_schema)
    text = new_recipe(
        schema=f"../{schemas}/recipe.schema.json",
        concept={
            "name": name,
            "version": options.version,
            "method": method.name,
            "supercategory": options.supercategory,
            "word": None if word == options.supercategory else word,
            "file": patterns_of([str(found.file)], recipe, project.root)[0],
            "sha256": sha256_of(found.file),
            "licence": found.licence,
        },
        train={},
        render={"strength": options.strength},
    )
    checked_recipe(parse_toml(text, "perf import", "recipe"), recipe_model, text="", where="perf import")
    entry, where = f"recipes/{name}.toml", str(project.manifest_path)
    before = read_text(project.manifest_path, "manifest")
    after = add_concept(before, name, {"recipe": entry}, where)
    make_folder(recipe.parent)
    replace_text(recipe, text)
    replace_text(project.manifest_path, after, as_it_was=True)
    try:
        (built,) = build(workspace, BuildOptions(names=(name,))).built
    except PerfError:  # numbers that are not finite, a lockfile that cannot be written
        replace_text(project.manifest_path, before, as_it_was=True)
        recipe.unlink()
        raise
    return ImportResult(
        name=name,
        version=built.version,
        recipe=entry,
        method=method.name,
        dialect=found.dialect,
        supercategory=options.supercategory,
        word=word,
        vectors=found.vectors,
        sha256=built.sha256,
        size=built.size,
    )


def _require_no_words(options: ImportOptions) -> None:
    """Raise PerfError for what is said of a textual inversion and only a LoRA has."""
    if options.word is not None:
        raise PerfError(
            f"`{options.file.name}` is a textual inversion, whose calls become its own tokens, not words",
            where=f"--word {options.word}",
            hint="leave --word out",
        )
    if options.strength is not None:
        raise PerfError(
            f"`{options.file.name}` is a textual inversion, which has no strength",
            where=f"--strength {options.strength:g}",
            hint=f"leave it out; a prompt may give it a weight, ({options.name}*:0.8)",
        )


def _warn_of_unsaid(workspace: Workspace, found: Examined, phrase: str) -> None:
    """Say which words of a file its calls do not say, so that their embeddings are not used."""
    said = said_in(phrase, found.learned)
    unsaid = [word for word in found.learned if word not in said]
    if unsaid:
        listed = ", ".join(repr(word) for word in unsaid[:8])
        workspace.reporter.warn(
            f"{found.file.name} brings embeddings of {listed}, which calls do not say; --word says what "
            "calls become"
        )


def _word(workspace: Workspace, found: Examined) -> str | None:
    """The one word that a file says of itself; of several none, with a warning."""
    if len(found.words) > 1:
        listed = ", ".join(repr(word) for word in found.words[:8])
        workspace.reporter.warn(
            f"{found.file.name} names several words ({listed}), so calls become none; --word says which"
        )
    return found.words[0] if len(found.words) == 1 else None
