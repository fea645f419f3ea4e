"""`perf search`: find concepts in registries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perfusion_registry.cli.options import JsonOption, OfflineOption, ProjectOption, RegistryOption
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from perfusion_registry.registries.registry import CatalogueEntry


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("search")(search)


def search(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="WORD", help="Words that must all be there.", show_default="everything"),
    ] = None,
    registry: RegistryOption = None,
    offline: OfflineOption = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find concepts and scene packs in the project's registries."""
    from perfusion_registry.cli import console
    from perfusion_registry.cli.registries import known_registries, sources_of

    named, root = known_registries(project, registry)
    sources = sources_of(named, root, offline=offline)
    wanted = [word.casefold() for word in words or ()]
    found: list[tuple[str, CatalogueEntry]] = []
    problems: list[PerfError] = []
    for name, place in sorted(named.items()):
        try:
            catalogue = sources.registry(place).catalogue()
        except PerfError as error:
            problems.append(error)
            continue
        found += [(name, entry) for entry in catalogue if _matches(entry, wanted)]
    if len(problems) == len(named):
        raise problems[0]
    found.sort(key=lambda row: (row[1].name not in wanted, row[1].name, row[0]))
    if as_json:
        rows = [
            {
                "registry": name,
                "name": entry.name,
                "version": entry.version,
                "kind": entry.kind,
                "supercategory": entry.supercategory,
                "description": entry.description,
            }
            for name, entry in found
        ]
        said = {"concepts": rows, "problems": [str(problem) for problem in problems]}
        console.say_json("perf.search/1", said)
        return
    for problem in problems:
        console.reporter().warn(str(problem))
    if not found:
        console.say("Nothing found")
        return
    cells = [
        [
            f"{name}/{entry.name}",
            entry.version,
            "scene pack" if entry.kind == "pack" else entry.supercategory or "",
            entry.description or "",
        ]
        for name, entry in found
    ]
    console.say_table(["concept", "version", "super", "description"], cells)


def _matches(entry: CatalogueEntry, words: list[str]) -> bool:
    text = " ".join([entry.name, entry.supercategory or "", entry.description or ""]).casefold()
    return all(word in text for word in words)
