"""Scenes: named prompts, with what they set for the concepts that they call.

Which settings there are is for methods to say: whoever reads a file with scenes hands it a model of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Annotated, Any, TypeVar, cast, get_args

from pydantic import Field, create_model

from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name

File = TypeVar("File", bound=FileModel)


class SceneSettings(FileModel):
    """What a scene sets for one concept; what is left out is as the concept has it."""


class Scene(FileModel):
    """A named prompt with its gates: what it sets for concepts, by their names."""

    prompt: Annotated[str, Field(min_length=1)]
    gates: dict[Name, SceneSettings] = Field(default_factory=dict)


FindSettings = Callable[[Collection[str]], type[SceneSettings]]
"""The model of what scenes may set; it is asked with the keys that the scenes of a file have."""


def with_scenes(model: type[File], settings: type[SceneSettings]) -> type[File]:
    """The model of a file whose field `scenes` has scenes that may set these; one for each pair."""
    extended: Any = _with_scenes(model, settings)
    return cast("type[File]", extended)


@cache
def _with_scenes(model: type[FileModel], settings: type[SceneSettings]) -> type[FileModel]:
    kind: Any = settings
    scene: Any = create_model(
        "Scene",
        __base__=Scene,
        __doc__=Scene.__doc__,
        gates=(dict[Name, kind], Field(default_factory=dict)),
    )
    names: Any = get_args(model.model_fields["scenes"].annotation)[0]
    scenes: Any = (dict[names, scene], Field(default_factory=dict))
    return create_model(model.__name__, __base__=model, __doc__=model.__doc__, scenes=scenes)


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
