"""`perf merge-driver`: git merges lockfiles block by block instead of line by line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfusion_registry.cli import console
from perfusion_registry.cli.help import argument
from perfusion_registry.cli.options import Standalone

if TYPE_CHECKING:
    from perfusion_registry.operations.merge import MergeDriverResult


def merge_driver(
    output: Standalone,
    base: Annotated[Path, argument("BASE", "The common ancestor (%O).")],
    ours: Annotated[Path, argument("OURS", "Our version (%A), replaced by the merge.")],
    theirs: Annotated[Path, argument("THEIRS", "Their version (%B).")],
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
    output.show(result, _tell)
    if result.conflicts:
        raise typer.Exit(1)


def _tell(result: MergeDriverResult) -> None:
    if result.conflicts:
        blocks = ", ".join(f"`{name}`" for name in result.conflicts)
        console.reporter().warn(
            f"perfusion.lock: both branches changed {blocks}; merge perfusion.toml, then run `perf lock`"
        )
