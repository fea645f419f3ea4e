"""`perf list --outdated`: what registries have beyond what is locked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perfusion_registry.cli import console
from perfusion_registry.cli.planning import survey
from perfusion_registry.cli.registries import sources_of
from perfusion_registry.recipe import LockedConcept
from perfusion_registry.recipe.name import parsed_version
from perfusion_registry.resolve.candidates import Shelf
from perfusion_registry.resolve.choice import platform_of
from perfusion_registry.resolve.demand import Demand
from perfusion_registry.resolve.wishes import key_path


def show_outdated(start: Path | None, *, offline: bool, as_json: bool) -> None:
    """Print each locked concept of a registry that has a newer version for this base, or is yanked."""
    found = survey(start, offline=offline)
    project = found.project
    sources = sources_of(project.manifest.registries, project.root, offline=offline)
    shelf = Shelf(sources, {}, platform_of(found.plan))
    blocks = [block for block in (project.lockfile.concepts if project.lockfile else ()) if block.registry]
    sources.prepare((block.registry, block.name) for block in blocks if block.registry)
    wanted = {name: entry.version or "" for name, entry in project.manifest.concepts.items()}
    rows = [_row(block, wanted, key_path(project, block.name), shelf) for block in blocks]
    rows = [row for row in rows if row["yanked"] or row["latest"] != row["locked"]]
    if as_json:
        console.say_json("perf.list-outdated/1", {"concepts": rows})
        return
    if not rows:
        console.say("Nothing is outdated")
        return
    cells = [
        [
            row["name"],
            row["locked"] + (" (yanked)" if row["yanked"] else ""),
            row["allowed"] or "",
            row["latest"] or "",
            row["registry"],
        ]
        for row in rows
    ]
    console.say_table(["concept", "locked", "allowed", "latest", "registry"], cells)
    if any(row["allowed"] not in (None, row["locked"]) for row in rows):
        console.say("Next: perf lock --upgrade")


def _row(block: LockedConcept, wanted: dict[str, str], origin: str, shelf: Shelf) -> dict[str, Any]:
    """A block, the newest version that the manifest lets in, and the newest that this base can use."""
    assert block.registry is not None

    def newest(constraint: str) -> str | None:
        demand = Demand(block.name, constraint, block.registry, origin)
        candidate = next(shelf.candidates(block.name, [demand]), None)
        return candidate.version if candidate else None

    latest = newest("")
    if latest is not None and parsed_version(latest) < parsed_version(block.version):
        latest = block.version  # a pre-release that was asked for, or a version that was yanked since
    listings = shelf.sources.listings(block.registry, block.name)
    return {
        "name": block.name,
        "locked": block.version,
        "allowed": newest(wanted.get(block.name, "")),
        "latest": latest,
        "yanked": any(one.yanked for one in listings if one.version == block.version),
        "registry": shelf.sources.called(block.registry),
    }
