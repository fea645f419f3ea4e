"""`perf add`: which concept is meant, one of a registry or one that is built here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perfusion_registry.errors import PerfError
from perfusion_registry.operations.add import AddOptions, AddResult, add
from perfusion_registry.operations.add_release import AddReleaseOptions, add_existing
from perfusion_registry.operations.recipe_options import read_options
from perfusion_registry.operations.workspace import Workspace


def read_addition(
    name: str,
    *,
    version: str | None = None,
    registry: str | None = None,
    supercategory: str | None = None,
    images: Iterable[str] = (),
    options: Iterable[str] = (),
    **more: Any,
) -> AddOptions | AddReleaseOptions:
    """What the command says. options: as `read_options` has them. more: of `AddOptions`; None is unsaid.

    It is a concept of a registry where that is said, or nothing of how to build one. Raises PerfError for
    what has no use then, and for a concept to build without its supercategory.
    """
    images, options = tuple(images), tuple(options)
    said = {key: value for key, value in more.items() if value is not None}
    if registry is not None or "/" in name or (supercategory is None and not images):
        if supercategory is not None or images or options or said:
            raise PerfError(
                f"`{name}` comes from a registry, so images and training options have no use",
                hint="leave them out, or leave out the registry",
            )
        return AddReleaseOptions(name=name, version=version, registry=registry)
    if supercategory is None:
        raise PerfError(
            "a concept that is built here needs its supercategory", where="--super", hint="--super teddy"
        )
    if version:
        said["version"] = version
    return AddOptions(
        name=name, supercategory=supercategory, images=images, options=read_options(options), **said
    )


def declare(workspace: Workspace, addition: AddOptions | AddReleaseOptions) -> AddResult:
    """Write a concept into the manifest, and its recipe where it has none yet."""
    if isinstance(addition, AddReleaseOptions):
        return add_existing(workspace, addition)
    return add(workspace, addition)
