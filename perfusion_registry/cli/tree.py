"""`perf tree`: what is locked, and for the sake of what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from perfusion_registry.cli.options import JsonOption, ProjectOption

if TYPE_CHECKING:
    from perfusion_registry.recipe import LockedConcept, Lockfile


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("tree")(tree)


def tree(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Show what is locked, and what each of it requires."""
    from perfusion_registry.cli import console
    from perfusion_registry.recipe import Lockfile
    from perfusion_registry.resolve import Project

    found = Project.find(project, lock_alone=True)
    lock = found.lockfile or Lockfile()
    required = {name for block in lock.concepts for name in block.requires}
    if found.manifest_path.is_file():
        roots = sorted(found.manifest.concepts)
    else:
        roots = [block.name for block in lock.concepts if block.name not in required]
    if as_json:
        rows = [
            {
                "name": block.name,
                "version": block.version,
                "kind": block.kind,
                "source": block.source,
                "requires": block.requires,
            }
            for block in lock.concepts
        ]
        told = {"project": found.manifest.project.name, "base": found.manifest.project.base}
        console.say_json("perf.tree/1", {**told, "roots": roots, "concepts": rows})
        return
    console.say(f"{found.manifest.project.name} (base {found.manifest.project.base})")
    for line in _lines(roots, lock, (), ""):
        console.say(line)


def _lines(names: list[str], lock: Lockfile, above: tuple[str, ...], indent: str) -> Iterator[str]:
    for place, name in enumerate(names, start=1):
        last = place == len(names)
        block = lock.concept(name)
        yield f"{indent}{'└── ' if last else '├── '}{_said(name, block)}"
        if block is not None and name not in above:  # packs may require each other
            deeper = indent + ("    " if last else "│   ")
            yield from _lines(sorted(block.requires), lock, (*above, name), deeper)


def _said(name: str, block: LockedConcept | None) -> str:
    if block is None:
        return f"{name} (not locked)"
    kind = "scene pack, " if block.kind == "pack" else ""
    return f"{name} {block.version} ({kind}{block.registry or block.source})"
