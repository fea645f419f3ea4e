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
