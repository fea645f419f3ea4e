"""Which locked versions were yanked since, as far as that is known without a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from perfusion_registry.cache_folder import expand_user
from perfusion_registry.errors import PerfError, one_line
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import LockedConcept
from perfusion_registry.recipe.name import Name, parsed_version


def yanked(workspace: Workspace, root: Path, blocks: Sequence[LockedConcept]) -> dict[Name, str]:
    """Those of the blocks that are yanked, by name, each with the reason that was given, or "".

    A registry in a folder is read; of any other counts what was last seen of it. root: what a relative folder
    is relative to.
    """
    from perfusion_registry.registries.opening import open_registry

    found = {}
    for block in blocks:
        if block.registry is None:
            continue
        with suppress(PerfError):  # what is not known is not said
            registry = open_registry(
                block.registry, name="registry", root=root, cache=workspace.store.root, offline=True
            )
            wanted = parsed_version(block.version)
            for listing in registry.versions(block.name):
                if listing.yanked and parsed_version(listing.version) == wanted:
                    found[block.name] = one_line(listing.reason or "")
    return found


def warn_of_yanked(workspace: Workspace, root: Path, blocks: Sequence[LockedConcept]) -> None:
    """Say of each of the blocks that is yanked that it is, what that means, and what to do."""
    reasons = yanked(workspace, root, blocks)
    for block in blocks:
        if (reason := reasons.get(block.name)) is not None:
            why = f" ({reason})" if reason else ""
            workspace.reporter.warn(
                f"{block.name} {block.version} is yanked{why}: it stays locked and is fetched as before; "
                f"`perf lock --upgrade-package {block.name}` takes another version"
            )


def index_files(root: Path, blocks: Sequence[LockedConcept]) -> Iterator[Path]:
    """The files of registries in folders that say so of these blocks."""
    from perfusion_registry.registries.index import index_key

    for block in blocks:
        if block.registry is not None and "://" not in block.registry:
            path = root / expand_user(block.registry) / index_key(block.name)
            if path.is_file():
                yield path
