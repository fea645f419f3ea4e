"""`perf merge-driver`: git merges lockfiles block by block instead of line by line."""

from __future__ import annotations

from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfusion_registry.cli.options import JsonOption

if TYPE_CHECKING:
    from perfusion_registry.recipe.merge import Merged

_HELP = """\
Merge perfusion.lock for git, block by block.

Two branches that add a concept each merge without a conflict. What both changed, and not alike, is left
between conflict markers, which `perf lock` heals.

To turn it on, in .gitattributes:

    perfusion.lock merge=perf

and once on every machine:

    git config --global merge.perf.name "perfusion.lock, block by block"

    git config --global merge.perf.driver "perf merge-driver %O %A %B"
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("merge-driver", help=_HELP)(merge_driver)


def merge_driver(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="The common ancestor (%O).")],
    ours: Annotated[Path, typer.Argument(metavar="OURS", help="Our version (%A), replaced by the merge.")],
    theirs: Annotated[Path, typer.Argument(metavar="THEIRS", help="Their version (%B).")],
    as_json: JsonOption = False,
) -> None:
    """Merge perfusion.lock for git, block by block."""
    from perfusion_registry.cli import console
    from perfusion_registry.recipe import Lockfile, read_lockfile
    from perfusion_registry.recipe.document import read_text
    from perfusion_registry.recipe.merge import merge_three
    from perfusion_registry.recipe.writing import replace_text

    # Of a file that is new on both branches, git's ancestor is empty.
    ancestor = read_lockfile(base) if read_text(base, "lockfile").strip() else Lockfile()
    merged = merge_three(ancestor, read_lockfile(ours), read_lockfile(theirs))
    replace_text(ours, _text(merged))
    if as_json:
        console.say_json("perf.merge-driver/1", {"conflicts": list(merged.conflicts)})
    if merged.conflicts:
        if not as_json:
            named = ", ".join(f"`{name}`" for name in merged.conflicts)
            console.reporter().warn(
                f"perfusion.lock: both branches changed {named}; merge perfusion.toml, then run `perf lock`"
            )
        raise typer.Exit(1)


def _text(merged: Merged) -> str:
    """The merged lockfile; the blocks in conflict between markers, as `git merge` leaves them."""
    from perfusion_registry.recipe.lockfile_text import dump_lockfile

    ours, theirs = (dump_lockfile(side).rstrip("\n").split("\n\n") for side in (merged.ours, merged.theirs))
    told: list[str] = []
    for kind, i, j, k, m in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if kind == "equal":
            told += ours[i:j]
            continue
        mine, other = ("\n\n".join(side) for side in (ours[i:j], theirs[k:m]))
        sides = ["<<<<<<< ours", *([mine] if mine else []), "=======", *([other] if other else [])]
        told.append("\n".join([*sides, ">>>>>>> theirs"]))
    return "\n\n".join(told) + "\n"
