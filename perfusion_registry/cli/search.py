"""`perf search` and `perf info`: what registries have, and what a concept says of itself."""

from __future__ import annotations

from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from perfusion_registry.cli import console
from perfusion_registry.cli.facts import say_facts
from perfusion_registry.cli.help import argument, option
from perfusion_registry.cli.options import Common, ForceOption, OfflineOption, RegistryOption

if TYPE_CHECKING:
    from perfusion_registry.operations.info import InfoResult
    from perfusion_registry.operations.search import SearchResult


def search(
    common: Common,
    words: Annotated[
        list[str] | None, argument("WORD", "Words that must all be there.", default="everything")
    ] = None,
    registry: RegistryOption = None,
    offline: OfflineOption = False,
) -> None:
    """Find concepts and scene packs in the project's registries."""
    from perfusion_registry.operations.search import search as run

    with common.open(offline=offline, lockfile_alone=True, optional=True) as workspace:
        result = run(workspace, words or (), registry=registry)
    common.show(result, _tell)


def _tell(result: SearchResult) -> None:
    for problem in result.problems:
        console.reporter().warn(problem)
    cells = [
        [
            f"{row.registry}/{row.name}",
            row.version,
            "scene pack" if row.kind == "pack" else row.supercategory or "",
            row.licence or "",
            row.consent or "",
            "yes" if row.preview else "",
            row.description or "",
        ]
        for row in result.concepts
    ]
    columns = ["concept", "version", "super", "licence", "consent", "preview", "description"]
    said = [any(texts) or column not in _SELDOM for column, *texts in zip(columns, *cells, strict=True)]
    shown = [[*compress(row, said)] for row in cells]
    console.say_table([*compress(columns, said)], shown, empty="Nothing found")


_SELDOM = ("consent", "preview")
"""Columns that are left out where no concept has any of it."""


def info(
    common: Common,
    name: Annotated[str, argument("[REGISTRY/]NAME[==VERSION]", "The concept.")],
    registry: RegistryOption = None,
    preview: Annotated[Path | None, option("FILE", "Save its preview picture, a JPEG.")] = None,
    force: ForceOption = False,
    offline: OfflineOption = False,
) -> None:
    """Show what a concept says of itself, and its versions."""
    from perfusion_registry.operations.info import info as run

    with common.open(offline=offline, lockfile_alone=True, optional=True) as workspace:
        result = run(workspace, name, registry=registry, preview=preview, force=force)
    common.show(result, lambda result: _tell_concept(result, saved=preview))


def _tell_concept(result: InfoResult, *, saved: Path | None) -> None:
    from perfusion_registry.operations.concept_in_words import concept_in_words

    console.say(f"{result.name} {result.version}")
    say_facts(concept_in_words(result, saved=saved))
