"""Captions counted by several machines (`cluster`): what `covariance --shard` does on one machine, done by
any of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from perfusion_registry.artifact import Store, digest_of
from perfusion_registry.build.checkpoint import CHECKPOINT
from perfusion_registry.cluster.file_task import FileTask
from perfusion_registry.errors import PerfError
from perfusion_registry.file_digests import FileDigests
from perfusion_registry.operations.counting import CaptionSource
from perfusion_registry.reporter import Reporter
from perfusion_registry.shards import Shard

if TYPE_CHECKING:
    from perfusion_registry.base import Base
    from perfusion_registry.build.counted import Counted
    from perfusion_registry.cluster.address import ClusterAddress

MOST = 256
"""Tasks at most: each reads all captions, however few of them it encodes."""


@dataclass(frozen=True)
class CaptionCounter:
    """What a process has loaded to count captions. store: the machine's, where sums and checkpoints are."""

    source: CaptionSource
    store: Store
    reporter: Reporter

    @cached_property
    def _base(self) -> Base:
        return self.source.load(self.reporter)

    def count(self, task: CountingTask) -> None:
        """Count the task's shard into its file, unless that is there."""
        out = task.path(self.store)
        if out.exists():
            return
        checkpoint, skipped = self.store.workspace(task.digest) / CHECKPOINT, list[str]()
        counted = self.source.count(
            self._base,
            self.source.read(skipped),
            skipped,
            shard=task.shard,
            checkpoint=checkpoint,
            reporter=self.reporter,
        )
        counted.save(out)
        checkpoint.unlink(missing_ok=True)


@dataclass(frozen=True)
class CountingTask(FileTask):
    """A shard of captions that any machine may count; a file of its sums is the result."""

    FILE: ClassVar[str] = "counted.safetensors"
    shard: Shard

    @property
    def title(self) -> str:
        """The shard."""
        return f"captions {self.shard[0]}/{self.shard[1]}"

    @property
    def checkpoints(self) -> str:
        """The digest of the sums."""
        return self.digest

    def steps(self, checkpoint: Path | bytes) -> int:
        """The captions that were read."""
        from perfusion_registry.build.counted import counts_of

        counts = counts_of(checkpoint)
        return 0 if counts is None else counts.captions

    def run(self, worker: CaptionCounter) -> None:
        """Count."""
        worker.count(self)

    def unpacked(self, text: str, store: Store) -> Path:
        """The file of the sums."""
        return self.path(store)


@contextmanager
def counted_on(
    cluster: ClusterAddress, source: CaptionSource, captions: int, store: Store, reporter: Reporter
) -> Iterator[tuple[Counted, Callable[[], None]]]:
    """Count on the machines of a cluster what is counted nowhere yet; all of it, merged, and what removes the
    sums of its parts from this machine, once what was asked for is written.

    captions: how many the source has. store: this machine's. Whoever counts the same with it waits meanwhile.
    """
    from perfusion_registry.build.counted import merged
    from perfusion_registry.build.estimation import WINDOW
    from perfusion_registry.cluster.pool import ClusterPool

    number = min(MOST, math.ceil(captions / WINDOW))
    digests = _digests(source, number, store)
    tasks = [CountingTask(digest, (k, number)) for k, digest in enumerate(digests, start=1)]
    pool = ClusterPool(cluster, store, source.base, reporter)
    compute = source.compute
    begin = partial(CaptionCounter, replace(source, compute=replace(compute, threads=None)), store)

    def discard() -> None:
        for task in tasks:
            store.discard_workspace(task.digest)

    with store.building(
        digest_of(digests), ", ".join(path.name for path in source.files), reporter, doing="counting"
    ):
        pool.fetch_done(tasks)
        left = [task for task in tasks if not task.path(store).exists()]
        with closing(pool.run("Counting captions", begin, left, compute.device, compute.threads)) as results:
            for _ in results:
                pass
        yield merged([task.path(store) for task in tasks]), discard


def sharable(source: CaptionSource) -> CaptionSource:
    """The source as other machines are given it. Raises PerfError for captions that they cannot read."""
    for path in source.files:
        if path == Path("-") or (path.exists() and not path.is_file()):
            raise PerfError(
                "other machines do not see " + ("standard input" if path == Path("-") else "what is no file"),
                where=f"--on, {path}",
                hint="write the captions to a file and name that",
            )
    return replace(source, files=tuple(path.absolute() for path in source.files))


def _digests(source: CaptionSource, number: int, store: Store) -> Sequence[str]:
    """What decides about the sums of each of so many shards: captions, how they are read, the text encoder,
    and how it computes."""
    files = FileDigests(store.root)
    compute = source.compute
    told = {
        "what": "counted captions, 2",
        "captions": [[path.name, files.sha256(path)] for path in source.files],
        "read": [source.column, source.limit, source.padding, source.skip_bad],
        "encoder": [source.base.text_digest, source.base.text_weights],
        "compute": [compute.device, compute.dtype, compute.threads or 1],
    }
    return [digest_of({**told, "shard": [k, number]}) for k in range(1, number + 1)]
