"""`init`: begin a project."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.table import any_recipe
from perfusion_registry.operations.result import InProcess, Result, named
from perfusion_registry.recipe import MANIFEST_NAME
from perfusion_registry.recipe.document import quote
from perfusion_registry.recipe.schemas import place_schemas
from perfusion_registry.recipe.writing import make_folder, replace_text

_MANIFEST = """\
#:schema {schemas}/manifest.schema.json

[project]
name = {name}
base = {base}            # or "owner/name@revision" of the Hugging Face Hub, or a folder

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
# licence = "CC-BY-4.0"
# authors = ["You <you@example.org>"]

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
    """`perf init`. folder: as it was named. written: the files, relative to it."""

    schema_: Literal["perf.init/1"] = named("perf.init/1")
    folder: str
    written: tuple[str, ...]
    name: InProcess[str]


def init(folder: Path, *, base: str = "storybook", name: str | None = None) -> InitResult:
    """Write a manifest and an example recipe into `folder`. name: the project's; default the folder's."""
    manifest = folder / MANIFEST_NAME
    if manifest.exists():
        raise PerfError(
            "there is a project here already",
            where=str(manifest),
            hint="run `perf add NAME --super WORD --images GLOB` to add a concept",
        )
    make_folder(folder / "recipes")
    schemas = place_schemas(folder, any_recipe())
    title = name or folder.absolute().name or "project"
    replace_text(manifest, _MANIFEST.format(name=quote(title), base=quote(base), schemas=schemas))
    written = [MANIFEST_NAME]
    example = folder / "recipes" / "example.toml"
    if not example.exists():
        replace_text(example, _EXAMPLE.format(schemas=schemas))
        written.append("recipes/example.toml")
    return InitResult(folder=folder.as_posix(), written=tuple(written), name=title)
