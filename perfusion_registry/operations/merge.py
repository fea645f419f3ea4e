"""`merge-driver`: git merges lockfiles block by block instead of line by line."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from perfusion_registry.operations.result import Result, named
from perfusion_registry.recipe import Lockfile, read_lockfile
from perfusion_registry.recipe.document import read_text
from perfusion_registry.recipe.lockfile_text import dump_merged
from perfusion_registry.recipe.merge import merge_three
from perfusion_registry.recipe.writing import replace_text


class MergeDriverResult(Result):
    """`perf merge-driver`. conflicts: the blocks that both branches changed, and not alike."""

    schema_: Literal["perf.merge-driver/1"] = named("perf.merge-driver/1")
    conflicts: tuple[str, ...]


def merge_lockfiles(base: Path, ours: Path, theirs: Path) -> MergeDriverResult:
    """Merge three versions of a lockfile into `ours`; what is in conflict stands there between markers."""
    # Of a file that is new on both branches, git's ancestor is empty.
    ancestor = read_lockfile(base) if read_text(base, "lockfile").strip() else Lockfile()
    merged = merge_three(ancestor, read_lockfile(ours), read_lockfile(theirs))
    replace_text(ours, dump_merged(merged))
    return MergeDriverResult(conflicts=merged.conflicts)
