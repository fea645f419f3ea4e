"""`add`: declare a concept that is built here from pictures, checked before it is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from perfusion_registry.build.images import ONE_PICTURE
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.files import edited_models, edited_schema, parse_manifest
from perfusion_registry.methods.interface import Method
from perfusion_registry.methods.table import find_method, recipe_model
from perfusion_registry.operations.judging import warn_of_pictures
from perfusion_registry.operations.pictures import (
    check_pictures,
    copies,
    copy_files,
    given_images,
    patterns_beside,
    patterns_of,
)
from perfusion_registry.operations.recipe_options import in_tables
from perfusion_registry.operations.result import Result, left_out_if_none, named
from perfusion_registry.operations.supercategory import check_supercategory
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import MANIFEST_NAME, canonical_name
from perfusion_registry.recipe.captions import not_read, numbered
from perfusion_registry.recipe.document import parse_toml, read_text
from perfusion_registry.recipe.editing import add_concept, new_recipe
from perfusion_registry.recipe.name import Name, Version
from perfusion_registry.recipe.recipe import DEFAULT_METHOD, checked_recipe
from perfusion_registry.recipe.schemas import place_schemas
from perfusion_registry.recipe.writing import make_folder, replace_text
from perfusion_registry.resolve import ProjectFolder


@dataclass(frozen=True, kw_only=True)
class AddOptions:
    """A concept to build here.

    images: patterns or files, from the working directory; none means the folder beside the recipe that is
    called like the concept. copy: copy the pictures there first. method: how it is learned and drawn. bias,
    temperature: of its gate in prompts. options: any others of the method, by key, or by table and key where
    both have it (`train.bias`). None: the recipe says nothing.
    """

    name: str
    supercategory: str
    images: tuple[str, ...] = ()
    copy: bool = False
    version: str = "1.0.0"
    bias: float | None = None
    temperature: float | None = None
    steps: int | None = None
    seed: int | None = None
    flip: bool | None = None
    method: str = DEFAULT_METHOD
    options: Mapping[str, Any] = field(default_factory=dict)


class AddResult(Result):
    """`perf add`: a recipe with its images, or a constraint and the version that it has at present.

    A recipe that was there already comes without images.
    """

    schema_: Literal["perf.add/1"] = named("perf.add/1")
    name: Name
    recipe: str | None
    images: tuple[str, ...] | None = left_out_if_none()
    pictures: int | None = left_out_if_none()
    version: str | None = left_out_if_none()
    registry: str | None = left_out_if_none()
    resolved: Version | None = left_out_if_none()


def has_unlisted_recipe(workspace: Workspace, name: str) -> bool:
    """Whether the project has a recipe of this name that its manifest does not list (see `add_recipe`)."""
    project, name = workspace.read(), canonical_name(name)
    return name not in project.manifest.concepts and _recipe_of(project, name).is_file()


def add_recipe(workspace: Workspace, name: str) -> AddResult:
    """Write the recipe, or scene pack, `recipes/NAME.toml` that is there already into the manifest.

    It stays as it is. Raises PerfError, and writes nothing, where it has a mistake or another name.
    """
    project, name = workspace.read(), canonical_name(name)
    entry, where = {"recipe": f"recipes/{name}.toml"}, str(project.manifest_path)
    text = add_concept(read_text(project.manifest_path, "manifest"), name, entry, where)
    project_with(project, text).declared(name)
    replace_text(project.manifest_path, text, as_it_was=True)
    return AddResult(name=name, recipe=entry["recipe"])


def add(workspace: Workspace, options: AddOptions) -> AddResult:
    """Write a recipe, and its entry into the manifest. Raises PerfError, and writes nothing, for what a build
    would refuse."""
    if (method := find_method(options.method)).imports:
        raise PerfError(
            f"concepts of the method `{method.name}` are made of a file that somebody has",
            where="--method",
            hint="`perf import FILE --name NAME --super WORD`",
        )
    project = workspace.read()
    name = canonical_name(options.name)
    recipe = new_place(project, name)
    _check_word(workspace, project, options.supercategory)
    beside = recipe.parent / name
    given = given_images(options.images, "--images") if options.images else ()
    copied = given if options.copy else ()
    # A name that is taken is told before the base looks at anything.
    wanted = copies(copied, beside, captions=method.reads_captions)
    if given and not copied:
        images, pictures = patterns_of(options.images, recipe, project.root), given
    else:
        images = patterns_beside(recipe, name, [source.path for source in copied])
        pictures = check_pictures(recipe.parent, images, str(beside), may_be_none=bool(copied))
    tables = in_tables(
        options.method,
        options.options,
        {
            "train": {"steps": options.steps, "seed": options.seed, "flip": options.flip},
            "render": {"bias": options.bias, "temperature": options.temperature},
        },
        "perf add",
    )
    schemas = place_schemas(project.root, edited_models(), edited_schema)
    text = new_recipe(
        schema=f"../{schemas}/recipe.schema.json",
        concept={
            "name": name,
            "version": options.version,
            "method": None if options.method == DEFAULT_METHOD else options.method,
            "supercategory": options.supercategory,
            "images": images,
        },
        **tables,
    )
    checked_recipe(parse_toml(text, "perf add", "recipe"), recipe_model, text="", where="perf add")
    shown = [source.path for source in (*pictures, *copied)]
    if len(set(shown)) == 1:
        workspace.reporter.note(f"{name}: {ONE_PICTURE}")
    note = _note_on_captions(method, sorted(set(shown)), copied=bool(copied))
    if note is not None:
        workspace.reporter.note(f"{name}: {note}")
    _warn_of_unlike(workspace, project, options.supercategory, shown)
    if copied:
        copy_files(wanted, beside)
    make_folder(recipe.parent)
    manifest, where = read_text(project.manifest_path, "manifest"), str(project.manifest_path)
    replace_text(recipe, text)
    entry = f"recipes/{name}.toml"
    after = add_concept(manifest, name, {"recipe": entry}, where)
    replace_text(project.manifest_path, after, as_it_was=True)
    return AddResult(
        name=name,
        recipe=entry,
        images=tuple(images),
        pictures=len({source.path.name for source in (*pictures, *copied)}) if copied else len(pictures),
    )


def new_place(project: ProjectFolder, name: str) -> Path:
    """Where the recipe of a new concept goes. Raises PerfError where the name is taken."""
    recipe = _recipe_of(project, name)
    if name in project.manifest.concepts:
        raise PerfError(
            f"there is a concept `{name}` already",
            where=str(recipe if recipe.exists() else project.manifest_path),
            hint=f"edit its recipe, or run `perf remove {name}` and delete the recipe first",
        )
    if recipe.exists():
        raise PerfError(
            f"there is a recipe of `{name}` already, which {MANIFEST_NAME} does not list",
            where=str(recipe),
            hint=f"`perf add {name}` takes it as it is; to begin anew, delete it first",
        )
    return recipe


def _check_word(workspace: Workspace, project: ProjectFolder, word: str) -> None:
    """Refuse a supercategory of several tokens, where the base is on this machine to be asked."""
    try:
        base = workspace.base(project, download=False)
    except PerfError:
        return
    check_supercategory(base, word)


def _note_on_captions(method: Method, pictures: list[Path], *, copied: bool) -> str | None:
    """What of captions and kohya's folder names the method does not read, or is left where it was."""
    if not method.reads_captions:
        return not_read(pictures)
    if not copied or not (folders := numbered(pictures)):
        return None
    return f"copied without the folder `{folders[0]}`, whose name says words, and how often it is shown"


def _warn_of_unlike(workspace: Workspace, project: ProjectFolder, word: str, given: list[Path]) -> None:
    """Say where the pictures are unlike what the base can draw, or show another thing, where it is on this
    machine."""
    try:
        description = workspace.base(project, download=False)
    except PerfError:
        return
    warn_of_pictures(description, given, word, workspace.reporter)


def project_with(project: ProjectFolder, text: str) -> ProjectFolder:
    """The project as it would be with this manifest."""
    manifest = parse_manifest(text, where=str(project.manifest_path))
    return ProjectFolder(project.root, manifest, project.lockfile)


def _recipe_of(project: ProjectFolder, name: str) -> Path:
    return project.root / "recipes" / f"{name}.toml"
