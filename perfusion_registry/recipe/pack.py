"""A scene pack: a recipe of prompts and gates over concepts that it requires; nothing of it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.document import parse_toml, read_text, validate
from perfusion_registry.recipe.lockfile_text import toml_key, toml_value
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Constraint, Name, Version
from perfusion_registry.recipe.recipe import FindRecipe, Line, Recipe, checked_recipe
from perfusion_registry.recipe.scene import FindSettings, Scene, keys_set, with_scenes

SceneName = Annotated[str, Field(min_length=1, max_length=200)]


class PackSection(FileModel):
    """`[pack]`: what it is called, and which concepts its scenes call at which versions."""

    name: Name
    version: Version
    description: Line | None = None
    licence: Line | None = None
    authors: tuple[Line, ...] = ()
    preview: Annotated[
        Line | None,
        Field(
            description="A picture beside the recipe, shown to others. No build reads it.",
            exclude_if=lambda name: name is None,
        ),
    ] = None
    requires: Annotated[
        dict[Name, Constraint], Field(description='Concepts that the scenes call: `teddy = ">=1,<2"`.')
    ] = Field(default_factory=dict)


class Pack(FileModel):
    """A scene pack; its scenes are drawn as `--scene pack/scene`."""

    pack: PackSection
    scenes: dict[SceneName, Scene] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _required(self) -> Pack:
        if self.pack.name in self.pack.requires:
            raise ValueError(f"`{self.pack.name}` requires itself")
        for scene, section in self.scenes.items():
            for name in section.gates:
                if name not in self.pack.requires:
                    raise ValueError(f"the scene `{scene}` sets a gate of `{name}`, which `requires` lacks")
        return self


def read_recipe_or_pack(path: Path, find: FindRecipe, settings: FindSettings) -> Recipe | Pack:
    """Read a file of `recipes/`: with `[pack]` it is a scene pack, else the recipe of a concept.

    find: the recipe model of a method. settings: what scenes may set. Every mistake in the file is in the one
    PerfError that is raised.
    """
    return parse_recipe_or_pack(read_text(path, "recipe"), find, settings, where=str(path))


def parse_recipe_or_pack(text: str, find: FindRecipe, settings: FindSettings, *, where: str) -> Recipe | Pack:
    """Check the text of such a file, as `read_recipe_or_pack` does."""
    data = parse_toml(text, where, "recipe")
    if "pack" in data and "concept" not in data:
        model = with_scenes(Pack, settings(keys_set(data)))
        return validate(data, model, text=text, where=where, kind="pack")
    return checked_recipe(data, find, text=text, where=where)


def parse_pack(blob: bytes, settings: FindSettings, *, where: str) -> Pack:
    """The pack of a published blob; nothing in it is trusted. Raises PerfError when it is none.

    settings: what scenes may set.
    """
    try:
        text = blob.decode()
    except UnicodeDecodeError as error:
        raise PerfError("the pack is not UTF-8 text", where=where) from error
    data = parse_toml(text, where, "pack")
    return validate(data, with_scenes(Pack, settings(keys_set(data))), text=text, where=where, kind="pack")


def dump_pack(pack: Pack) -> bytes:
    """The pack as it is published and locked: one spelling, whatever its file's comments and order."""
    head = pack.pack.model_dump(exclude_none=True, exclude={"preview"})  # a file of its author
    head["requires"] = dict(sorted(head["requires"].items()))
    blocks = ["\n".join(["[pack]", *(f"{key} = {toml_value(head[key])}" for key in head if head[key])])]
    for name in sorted(pack.scenes):
        scene = pack.scenes[name].model_dump(exclude_none=True)
        scene["gates"] = dict(sorted(scene["gates"].items()))
        fields = [f"{key} = {toml_value(scene[key])}" for key in scene if scene[key]]
        blocks.append("\n".join([f"[scenes.{toml_key(name)}]", *fields]))
    return ("\n\n".join(blocks) + "\n").encode()
