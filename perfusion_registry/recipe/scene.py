"""Scenes: named prompts, with what they set for the concepts that they call.

Which settings there are is for methods to say: whoever reads a file with scenes hands it a model of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import Field, create_model

from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name


class SceneSettings(FileModel):
    """What a scene sets for one concept; what is left out is as the concept has it."""


class Scene(FileModel):
    """A named prompt with its gates: what it sets for concepts, by their names."""

    prompt: Annotated[str, Field(min_length=1)]
    gates: dict[Name, SceneSettings] = Field(default_factory=dict)


FindSettings = Callable[[Collection[str]], type[SceneSettings]]
"""The model of what scenes may set; it is asked with the keys that the scenes of a file have."""


@cache
def scene_model(settings: type[SceneSettings]) -> type[Scene]:
    """The model of scenes that may set these."""
    kind: Any = settings
    return create_model(
        "Scene",
        __base__=Scene,
        __doc__=Scene.__doc__,
        gates=(dict[Name, kind], Field(default_factory=dict)),
    )


def keys_set(data: Mapping[str, Any]) -> set[str]:
    """The keys that scenes set for concepts. data: a parsed file, in which nothing is checked yet."""
    return {
        key
        for scene in _tables(data.get("scenes"))
        for settings in _tables(scene.get("gates"))
        for key in settings
    }


def _tables(value: object) -> list[Mapping[str, Any]]:
    """The tables in a table, if it is one."""
    return [one for one in value.values() if isinstance(one, dict)] if isinstance(value, dict) else []
