"""`perf tree`: what is locked, and for the sake of what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from perfusion_registry.cli import console
from perfusion_registry.cli.options import Common

if TYPE_CHECKING:
    from perfusion_registry.operations.tree import TreeResult
    from perfusion_registry.recipe import LockedConcept, Lockfile


def tree(common: Common) -> None:
    """Show what is locked, and what each of it requires."""
    from perfusion_registry.operations.tree import tree as run

    with common.open(lockfile_alone=True) as workspace:
        result = run(workspace)
    common.show(result, _tell)


def _tell(result: TreeResult) -> None:
    console.say(f"{result.project} (base {result.base})")
    for line in _lines(result.roots, result.lockfile, (), ""):
        console.say(line)


def _lines(names: Sequence[str], lock: Lockfile, above: tuple[str, ...], indent: str) -> Iterator[str]:
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
