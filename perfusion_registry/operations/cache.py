"""`cache`: the store of a machine.

Not functions of a workspace, which holds the store so that nothing is pruned.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from perfusion_registry.amounts import count
from perfusion_registry.artifact.disk_usage import disk_usage
from perfusion_registry.artifact.pruning import prune as remove
from perfusion_registry.artifact.verification import verify_store
from perfusion_registry.errors import CheckFailedError
from perfusion_registry.operations.result import InProcess, Result, named
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.reporter import Reporter


class CacheDirResult(Result):
    """`perf cache dir`."""

    schema_: Literal["perf.cache-dir/1"] = named("perf.cache-dir/1")
    path: str


class KindCount(FileModel):
    """The files of one kind in the store, and their bytes."""

    kind: str
    files: int
    size: int


class CacheSizeResult(Result):
    """`perf cache size`."""

    schema_: Literal["perf.cache-size/1"] = named("perf.cache-size/1")
    path: str
    size: int
    kinds: tuple[KindCount, ...]


class DamagedFile(FileModel):
    """A damaged file of the store, and where it is now: in quarantine, or None where it was left."""

    path: str
    what: str
    quarantine: str | None


class CacheVerifyResult(Result):
    """`perf cache verify`."""

    schema_: Literal["perf.cache-verify/1"] = named("perf.cache-verify/1")
    artifacts: int
    records: int
    damaged: tuple[DamagedFile, ...]
    root: InProcess[Path]

    def raise_if_failed(self) -> None:
        """Raise CheckFailedError where something is damaged."""
        if self.damaged:
            moved = any(row.quarantine for row in self.damaged)
            left = f"moved to {self.root / 'quarantine'}" if moved else "left where they are"
            raise CheckFailedError(
                f"{count(len(self.damaged), 'damaged file')} in the store, {left}",
                where=str(self.root),
                hint="run `perf sync` or `perf build` in the projects that use them",
            )


class RemovedFile(FileModel):
    """Something that was, or would be, removed from the store."""

    kind: str
    path: str
    size: int


class CachePruneResult(Result):
    """`perf cache prune`. locked: artifacts that stay because one of `lockfiles` names them."""

    schema_: Literal["perf.cache-prune/1"] = named("perf.cache-prune/1")
    dry_run: bool
    removed: tuple[RemovedFile, ...]
    freed: int
    left: int
    locked: int
    lockfiles: tuple[str, ...]


def cache_size(root: Path) -> CacheSizeResult:
    """The files and bytes of the store at `root`, kind by kind."""
    counts = disk_usage(root)
    return CacheSizeResult(
        path=str(root),
        size=sum(count.size for count in counts),
        kinds=tuple(KindCount(kind=one.kind, files=one.files, size=one.size) for one in counts),
    )


def verify_cache(root: Path, *, dry_run: bool = False, reporter: Reporter | None = None) -> CacheVerifyResult:
    """Hash everything in the store at `root`, and set aside what is damaged."""
    verification = verify_store(root, dry_run=dry_run, reporter=reporter)
    damaged = tuple(
        DamagedFile(
            path=str(damage.path),
            what=damage.what,
            quarantine=str(damage.quarantine) if damage.quarantine else None,
        )
        for damage in verification.damaged
    )
    return CacheVerifyResult(
        artifacts=verification.artifacts, records=verification.records, damaged=damaged, root=root
    )


def prune_cache(
    root: Path,
    *,
    older_than: float | None = None,
    max_size: int | None = None,
    dry_run: bool = False,
    reporter: Reporter | None = None,
) -> CachePruneResult:
    """Remove from the store at `root` what no known lockfile names, the longest unused first.

    older_than: only what was not used for so many seconds. max_size: only as much as brings the store below
    so many bytes. Waits until no other process uses the store.
    """
    pruning = remove(root, older_than=older_than, max_size=max_size, dry_run=dry_run, reporter=reporter)
    return CachePruneResult(
        dry_run=dry_run,
        removed=tuple(
            RemovedFile(kind=removal.kind, path=str(removal.path), size=removal.size)
            for removal in pruning.removed
        ),
        freed=sum(removal.size for removal in pruning.removed),
        left=pruning.left,
        locked=pruning.locked,
        lockfiles=tuple(str(path) for path in pruning.lockfiles),
    )
