"""`init`: begin a project."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from perfusion_registry.cache_folder import expand_user
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.files import edited_models, edited_schema
from perfusion_registry.operations.result import InProcess, Result, named
from perfusion_registry.recipe import MANIFEST_NAME
from perfusion_registry.recipe.document import quote, read_text
from perfusion_registry.recipe.schemas import place_schemas
from perfusion_registry.recipe.writing import make_folder, replace_text

if TYPE_CHECKING:
    from perfusion_registry.base.description import CheckedBase

WRITTEN = ("renders/", "out/")
"""Where perf writes pictures and reports, which are not committed: what `init` puts into .gitignore."""

_MANIFEST = """\
#:schema {schemas}/manifest.schema.json

[project]
name = {name}
base = {base}            # or "owner/name@revision" of the Hugging Face Hub, a folder or a file

# Each concept is called in prompts by its name and a star: "a teddy* in the snow".
# `perf add` writes an entry here and a recipe:
#
#     perf add teddy --super teddy --images photos/*.png
#
[concepts]

# Named prompts; `gates` sets how strongly a concept acts in this prompt alone.
#
# [scenes.snow]
# prompt = "a teddy* in the snow"
# gates = {{ teddy = {{ bias = 0.55, temperature = 0.15 }} }}
"""

_EXAMPLE = """\
#:schema ../{schemas}/recipe.schema.json
# An example of a recipe, with every key that is worth knowing. It is not built until perfusion.toml lists it:
#     [concepts]
#     example = {{ recipe = "recipes/example.toml" }}

[concept]
name = "example"                # called in prompts as example*
version = "1.0.0"
supercategory = "teddy"         # one plain word that the base knows; the concept behaves like it
images = ["example/*.png"]      # 3 to 8 pictures of the one thing; case is ignored
# masks = ["masks/*.png"]       # or put 1.mask.png beside 1.png: white where the thing is
# Others read these, once it is published; `perf publish` asks for them and writes them here.
# licence = "CC-BY-4.0"
# authors = ["You <you@example.org>"]
# description = "a bear with one ear"
# consent = "the child that owns it"    # who agreed, where a person or a private thing is shown
# preview = "example/1.png"             # a picture that shows it to others

[train]                         # every key optional; the base's values, else the paper's, are the defaults
# steps = 400
# bias = 0.75                   # the gate in training
# temperature = 0.1
# flip = false                  # for things that look different in a mirror, such as letters
# mask = "auto"                 # auto, attention, clipseg, files or none
# residual_rank = 0.05          # also learn what one word cannot say; 0: the rank-one edit alone
# sizes = [1.0, 0.6]            # also learn from the pictures shrunk, for things drawn small
# seed = 0

[render]
# bias = 0.65                   # the gate in prompts: lower is more of the concept
# temperature = 0.15
# residual = 1.0                # the strength of what was learned beside the gate, where it was
# key_lock = "local"            # or "global": closer to the prompt, further from the images
"""


class InitResult(Result):
    """`perf init`. folder: as it was named. written: the files, relative to it.

    base_here: False where the base is not on this machine; brought_by: what brings it then. untrainable: why
    no concept can be trained on it, where it draws all the same.
    """

    schema_: Literal["perf.init/1"] = named("perf.init/1")
    folder: str
    written: tuple[str, ...]
    name: InProcess[str]
    base_here: InProcess[bool] = True
    untrainable: InProcess[str | None] = None
    brought_by: InProcess[str | None] = None


def init(folder: Path, *, base: str = "storybook", name: str | None = None) -> InitResult:
    """Write a manifest, an example recipe and a .gitignore into `folder`.

    base: as a manifest names it, but a folder is as seen from the working directory. name: the project's;
    default the folder's. A .gitignore that is there gets the lines that it lacks. Raises PerfError, and
    writes nothing, for what can be of no use as a base.
    """
    manifest = folder / MANIFEST_NAME
    if manifest.exists():
        raise PerfError(
            "there is a project here already",
            where=str(manifest),
            hint="run `perf add NAME --super WORD --images GLOB` to add a concept",
        )
    base, checked = _checked_base(base, folder)
    make_folder(folder / "recipes")
    schemas = place_schemas(folder, edited_models(), edited_schema)
    title = name or folder.absolute().name or "project"
    replace_text(manifest, _MANIFEST.format(name=quote(title), base=quote(base), schemas=schemas))
    written = [MANIFEST_NAME]
    example = folder / "recipes" / "example.toml"
    if not example.exists():
        replace_text(example, _EXAMPLE.format(schemas=schemas))
        written.append("recipes/example.toml")
    if _ignore(folder / ".gitignore"):
        written.append(".gitignore")
    return InitResult(
        folder=folder.as_posix(),
        written=tuple(written),
        name=title,
        base_here=checked.here,
        untrainable=checked.untrainable,
        brought_by=checked.brought_by,
    )


def _checked_base(base: str, folder: Path) -> tuple[str, CheckedBase]:
    """The base as the manifest in `folder` is to name it, and what can be told of it."""
    from perfusion_registry.base import BaseReference, check_base

    reference = BaseReference.parse(base, where="--base")
    if reference.kind == "path" and not expand_user(base).is_absolute():
        seen = os.path.relpath(base, folder).replace(os.sep, "/")
        base = seen if seen.startswith("..") else f"./{seen}"
    checked = check_base(base, root=folder.absolute())
    if not checked.here and reference.kind == "hub" and Path(base).is_dir():
        raise PerfError(
            f"`{base}` is read as a model of the Hugging Face Hub, and there is a folder of that name here",
            where="--base",
            hint=f"write ./{base} for the folder",
        )
    return base, checked


def _ignore(path: Path) -> bool:
    """Let git ignore what perf writes; whether that had to be said."""
    text = read_text(path, "list of ignored files") if path.exists() else ""
    known = {line.strip().strip("/") for line in text.splitlines()}
    missing = [folder for folder in WRITTEN if folder.strip("/") not in known]
    if not missing:
        return False
    if text and not text.endswith("\n"):
        text += "\n"
    replace_text(path, text + "".join(f"{folder}\n" for folder in missing), as_it_was=True)
    return True
