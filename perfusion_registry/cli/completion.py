"""What the shell offers when Tab is pressed; a project that cannot be read offers nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfusion_registry.errors import PerfError
from perfusion_registry.progress import printable

if TYPE_CHECKING:
    from perfusion_registry.recipe import Manifest


def concept_names(incomplete: str) -> list[str]:
    """The project's concepts that begin so."""
    manifest = _manifest()
    return [name for name in sorted(manifest.concepts) if name.startswith(incomplete)] if manifest else []


def scene_names(incomplete: str) -> list[tuple[str, str]]:
    """The project's scenes that begin so, each with its prompt."""
    manifest = _manifest()
    scenes = manifest.scenes if manifest else {}
    found = sorted(name for name in scenes if name.startswith(incomplete) and name.isprintable())
    return [(name, printable(scenes[name].prompt).replace("\n", " ")) for name in found]


def registry_names(incomplete: str) -> list[tuple[str, str]]:
    """The project's registries that begin so, each with its address."""
    manifest = _manifest(lockfile_alone=False)
    known = manifest.registries if manifest else {}
    return [(name, printable(known[name])) for name in sorted(known) if name.startswith(incomplete)]


def _manifest(*, lockfile_alone: bool = True) -> Manifest | None:
    """That of the project around, or, unless that will not do, what its lockfile alone stands for."""
    from perfusion_registry.resolve import ProjectFolder

    try:
        return ProjectFolder.find(lockfile_alone=lockfile_alone).manifest
    except PerfError:
        return None
