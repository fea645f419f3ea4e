"""The registries of a project, as a command uses them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfusion_registry.registries.registry import Registry
    from perfusion_registry.resolve.sources import Sources


def sources_of(named: Mapping[str, str], root: Path, *, offline: bool) -> Sources:
    """The registries at the addresses `named`, opened when they are first asked.

    root: what a relative folder is relative to. offline: of remote ones, only what this machine remembers.
    """
    from perfusion_registry.artifact import cache_dir
    from perfusion_registry.registries.opening import open_registry
    from perfusion_registry.resolve.sources import Sources

    names = {url: name for name, url in named.items()}

    def opened(place: str) -> Registry:
        name = names.get(place, "registry")
        return open_registry(place, name=name, root=root, cache=cache_dir(), offline=offline)

    return Sources(named, opened)


def known_registries(start: Path | None, registry: str | None) -> tuple[dict[str, str], Path]:
    """The registries to ask, by name, and the folder that relative ones start from.

    registry: one alone, by its name in the project, or by its address, which needs no project. Raises
    PerfError where there is none.
    """
    from perfusion_registry.errors import PerfError
    from perfusion_registry.resolve import Project

    try:
        project = Project.find(start, lock_alone=True)
    except PerfError:
        if registry is None or start is not None:
            raise
        return {registry: registry}, Path.cwd()
    named = project.manifest.registries
    if registry is not None:
        return ({registry: named[registry]} if registry in named else {registry: registry}), project.root
    if not named:
        blocks = project.lockfile.concepts if project.lockfile else ()
        named = {block.registry: block.registry for block in blocks if block.registry is not None}
    if not named:
        raise PerfError(
            "the project has no registry",
            where=str(project.manifest_path),
            hint='add one: [registries] studio = "https://..." (or a folder)',
        )
    return dict(named), project.root
