"""Captions counted by several machines (`cluster`): what `covariance --shard` does on one machine, done by
any of them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.artifact import Store
from perfusion_registry.build.checkpoint import CHECKPOINT
from perfusion_registry.errors import PerfError
from perfusion_registry.file_digests import FileDigests
from perfusion_registry.operations.counting import CaptionSource
from perfusion_registry.reporter import Reporter
from perfusion_registry.shards import Shard

if TYPE_CHECKING:
    from perfusion_registry.base import Base
    from perfusion_registry.build.counted import Counted
    from perfusion_registry.cluster.address import ClusterAddress
    from perfusion_registry.cluster.shared_store import SharedStore

MOST = 256
"""Tasks at most: each reads all captions, however few of them it encodes."""
_COUNTED = "counted.safetensors"


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
        checkpoint, skipped = out.with_name(CHECKPOINT), list[str]()
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
class CountingTask:
    """A shard of captions that any machine may count; a file of its sums is the result."""

    shard: Shard
    digest: str

    @property
    def title(self) -> str:
        """The shard."""
        return f"captions {self.shard[0]}/{self.shard[1]}"

    @property
    def checkpoints(self) -> str:
        """The digest of all that decides about the sums."""
        return self.digest

    def path(self, store: Store) -> Path:
        """Where a machine has the sums, or would have them."""
        return store.workspace(self.digest) / _COUNTED

    def steps(self, checkpoint: Path | bytes) -> int:
        """The captions that were read."""
        from perfusion_registry.build.counted import counts_of

        counts = counts_of(checkpoint)
        return 0 if counts is None else counts.captions

    def fetch(self, shared: SharedStore, store: Store) -> bool:
        """Bring the sums here, unless they are."""
        path = self.path(store)
        return path.exists() or shared.fetch_result(self.digest, path)

    def give(self, shared: SharedStore, store: Store) -> bool:
        """Share the sums. Where another machine was faster, and its processor rounds otherwise, its sums take
        the place of these."""
        given = shared.give_result(self.digest, self.path(store))
        if not given:
            self.path(store).unlink()
        return given

    def run(self, worker: CaptionCounter) -> None:
        """Count."""
        worker.count(self)

    def packed(self, result: None) -> str:
        """Nothing: the file says it."""
        return ""

    def unpacked(self, text: str, store: Store) -> Path:
        """The file of the sums."""
        return self.path(store)


def count_on(
    cluster: ClusterAddress, source: CaptionSource, captions: int, store: Store, reporter: Reporter
) -> Counted:
    """Count on the machines of a cluster what is counted nowhere yet, and merge it all.

    captions: how many the source has. store: this machine's.
    """
    from perfusion_registry.build.counted import merged
    from perfusion_registry.build.estimation import WINDOW
    from perfusion_registry.cluster.pool import ClusterPool

    number = min(MOST, math.ceil(captions / WINDOW))
    tasks = [
        CountingTask((k, number), digest) for k, digest in enumerate(_digests(source, number, store), start=1)
    ]
    pool = ClusterPool(cluster, store, source.base, reporter)
    pool.fetch_done(tasks)
    left = [task for task in tasks if not task.path(store).exists()]
    compute = source.compute
    begin = partial(CaptionCounter, replace(source, compute=replace(compute, threads=None)), store)
    with closing(pool.run("Counting captions", begin, left, compute.device, compute.threads)) as results:
        for _ in results:
            pass
    counted = merged([task.path(store) for task in tasks])
    for task in tasks:
        store.discard_workspace(task.digest)
    return counted


def sharable(source: CaptionSource) -> CaptionSource:
    """The source as other machines are given it. Raises PerfError for captions that they cannot read."""
    if Path("-") in source.files:
        raise PerfError(
            "other machines do not see standard input",
            where="--on",
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
    texts = [json.dumps({**told, "shard": [k, number]}) for k in range(1, number + 1)]
    return [hashlib.sha256(text.encode()).hexdigest() for text in texts]
