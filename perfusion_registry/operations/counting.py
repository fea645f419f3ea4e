"""Counting captions for a covariance: where they are read from, with which base, and what a part of them
gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from perfusion_registry.base import BaseDescription
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.reporter import Reporter
from perfusion_registry.shards import WHOLE, Shard

if TYPE_CHECKING:
    from perfusion_registry.base import Base
    from perfusion_registry.build.counted import Counted


@dataclass(frozen=True)
class CaptionSource:
    """Captions, and what they are counted with. files: of captions; `-` is standard input. The rest as in
    `CovarianceOptions`."""

    files: tuple[Path, ...]
    base: BaseDescription
    column: str | None
    limit: int | None
    padding: Literal["all", "none"]
    skip_bad: bool
    compute: ComputeOptions

    def read(self, skipped: list[str]) -> Iterator[str]:
        """The captions, in order. skipped: takes where rows were left out. What cannot be read is reported
        now, as a PerfError."""
        from perfusion_registry.build import read_captions

        skip = (lambda where, why: skipped.append(where)) if self.skip_bad else None
        stream = read_captions(self.files, self.column, skip)
        stream = chain(list(islice(stream, 1)), stream)
        return stream if self.limit is None else islice(stream, self.limit)

    def load(self, reporter: Reporter) -> Base:
        """The base, of which the text encoder alone computes."""
        from perfusion_registry.base import load_base
        from perfusion_registry.base.offloading import text_to_device

        with reporter.stage(f"Loading {self.base.repo}"):
            base = load_base(self.base, self.compute.device, self.compute.dtype, offload=self.compute.offload)
            if self.compute.offload is not None:
                text_to_device(base)  # nothing else computes
        return base

    def count(
        self,
        base: Base,
        captions: Iterator[str],
        skipped: list[str],
        *,
        shard: Shard = WHOLE,
        checkpoint: Path,
        reporter: Reporter,
    ) -> Counted:
        """Count a shard of what `read` gave, with what `load` did; it goes on from the checkpoint, which the
        caller removes."""
        from perfusion_registry.build.estimation import count

        counted = count(
            base,
            captions,
            shard=shard,
            padding=self.padding,
            total=self.limit,
            checkpoint=checkpoint,
            reporter=reporter,
        )
        counts = counted.counts.model_copy(update={"skipped": len(skipped)})
        return replace(counted, counts=counts)
