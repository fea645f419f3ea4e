"""`perf merge-driver`: git merges lockfiles block by block instead of line by line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perfusion_registry.cli import console
from perfusion_registry.cli.help import argument
from perfusion_registry.cli.options import JsonOption


def merge_driver(
    base: Annotated[Path, argument("BASE", "The common ancestor (%O).")],
    ours: Annotated[Path, argument("OURS", "Our version (%A), replaced by the merge.")],
    theirs: Annotated[Path, argument("THEIRS", "Their version (%B).")],
    as_json: JsonOption = False,
) -> None:
    """Merge perfusion.lock for git, block by block.

    Two branches that add a concept each merge without a conflict. What both changed, and not alike, is left
    between conflict markers, which `perf lock` heals.

    To turn it on, in .gitattributes:

        perfusion.lock merge=perf

    and once on every machine:

        git config --global merge.perf.name "perfusion.lock, block by block"

        git config --global merge.perf.driver "perf merge-driver %O %A %B"
    """
    from perfusion_registry.operations.merge import merge_lockfiles

    result = merge_lockfiles(base, ours, theirs)
    if as_json:
        console.say_result(result)
    if result.conflicts:
        if not as_json:
            blocks = ", ".join(f"`{name}`" for name in result.conflicts)
            console.reporter().warn(
                f"perfusion.lock: both branches changed {blocks}; merge perfusion.toml, then run `perf lock`"
            )
        raise typer.Exit(1)
