"""The covariance of a base's text encoder, which Perfusion needs once for each base."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from perfusion_registry.base.offload_kinds import Offload
from perfusion_registry.library.arguments import several
from perfusion_registry.reporter import Logging, Reporter

if TYPE_CHECKING:
    from perfusion_registry.operations.covariance import (
        CovarianceOptions,
        CovarianceResult,
        CovarianceShardResult,
    )


def estimate_covariance(
    captions: str | Path | Collection[str | Path],
    out: str | Path,
    *,
    base: str | None = None,
    column: str | None = None,
    limit: int | None = None,
    padding: Literal["all", "none"] = "all",
    skip_bad: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    offload: Offload | None = None,
    on: str | None = None,
    shared_store: str | None = None,
    reporter: Reporter | None = None,
) -> CovarianceResult:
    """Estimate the covariance of a base's text encoder from captions, into a file that `[project]` can name.

    captions: files of text, one a line, or tables (CSV, TSV, JSON Lines, Parquet). out: the file to write.
    base: as in a manifest; None for that of the project here, or "storybook" where there is none. column: of
    the captions in tables, by its name or number. limit: captions at most. padding: whether positions after a
    caption's end count. skip_bad: leave out unreadable rows, and count them. device, dtype, offload: as in
    `Project.build`; on, shared_store: machines that count, as there. A run that is interrupted resumes when
    it is given the same captions again. Raises PerfError.
    """
    from perfusion_registry.cluster.address import ClusterAddress
    from perfusion_registry.operations.covariance import estimate

    cluster = ClusterAddress.read(on, shared_store)
    compute = (device, dtype, offload)
    options = _options(captions, out, base, column, limit, padding, skip_bad, compute)
    return estimate(replace(options, cluster=cluster), reporter or Logging())


def count_covariance_shard(
    captions: str | Path | Collection[str | Path],
    out: str | Path,
    shard: str,
    *,
    base: str | None = None,
    column: str | None = None,
    limit: int | None = None,
    padding: Literal["all", "none"] = "all",
    skip_bad: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    offload: Offload | None = None,
    reporter: Reporter | None = None,
) -> CovarianceShardResult:
    """Count one part of the captions for a covariance, on one of several machines, for `merge_covariance`.

    captions: all of them, in the same order on every machine. shard: "2/8" is the second of eight. out: the
    file of its sums. The rest is as in `estimate_covariance`. Raises PerfError.
    """
    from perfusion_registry.operations.covariance import count_shard
    from perfusion_registry.shards import parse_shard

    compute = (device, dtype, offload)
    options = _options(captions, out, base, column, limit, padding, skip_bad, compute)
    return count_shard(options, parse_shard(shard), reporter or Logging())


def merge_covariance(
    shards: str | Path | Iterable[str | Path], out: str | Path, *, reporter: Reporter | None = None
) -> CovarianceResult:
    """Merge the files of all shards of a corpus, in any order, into its covariance: to the byte the one that
    `estimate_covariance` writes of the same captions on such a processor. Raises PerfError."""
    from perfusion_registry.operations.covariance import MergeOptions, merge

    return merge(MergeOptions(shards=tuple(map(Path, several(shards))), out=Path(out)), reporter or Logging())


def _options(
    captions: str | Path | Collection[str | Path],
    out: str | Path,
    base: str | None,
    column: str | None,
    limit: int | None,
    padding: Literal["all", "none"],
    skip_bad: bool,
    compute: tuple[str, str, Offload | None],
) -> CovarianceOptions:
    """What both ways to count are asked for. compute: device, dtype, offload."""
    from perfusion_registry.operations.compute import ComputeOptions
    from perfusion_registry.operations.covariance import CovarianceOptions

    device, dtype, offload = compute
    return CovarianceOptions(
        captions=several(captions),
        out=Path(out),
        base=base,
        column=column,
        limit=limit,
        padding=padding,
        skip_bad=skip_bad,
        compute=ComputeOptions(device, dtype, offload=offload),
    )
