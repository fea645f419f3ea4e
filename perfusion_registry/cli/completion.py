"""What the shell offers when Tab is pressed; a project that cannot be read offers nothing."""

from __future__ import annotations

from perfusion_registry.errors import PerfError


def concept_names(incomplete: str) -> list[str]:
    """The project's concepts that begin so."""
    from perfusion_registry.resolve import ProjectFolder

    try:
        names = sorted(ProjectFolder.find(lockfile_alone=True).manifest.concepts)
    except PerfError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def scene_names(incomplete: str) -> list[tuple[str, str]]:
    """The project's scenes that begin so, each with its prompt."""
    from perfusion_registry.cli.console import printable
    from perfusion_registry.resolve import ProjectFolder

    try:
        scenes = ProjectFolder.find(lockfile_alone=True).manifest.scenes
    except PerfError:
        return []
    found = sorted(name for name in scenes if name.startswith(incomplete) and name.isprintable())
    return [(name, printable(scenes[name].prompt).replace("\n", " ")) for name in found]


def registry_names(incomplete: str) -> list[tuple[str, str]]:
    """The project's registries that begin so, each with its address."""
    from perfusion_registry.cli.console import printable
    from perfusion_registry.resolve import ProjectFolder

    try:
        known = ProjectFolder.find().manifest.registries
    except PerfError:
        return []
    return [(name, printable(known[name])) for name in sorted(known) if name.startswith(incomplete)]
