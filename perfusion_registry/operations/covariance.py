"""`covariance`: estimate a text encoder's second moment from captions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from perfusion_registry.errors import PerfError
from perfusion_registry.operations.cluster_covariance import counted_on, sharable
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.counting import CaptionSource
from perfusion_registry.operations.result import InProcess, Result, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe.writing import require_own, require_writable
from perfusion_registry.reporter import Reporter, Silent
from perfusion_registry.shards import WHOLE, Shard, parse_shard

if TYPE_CHECKING:
    from perfusion_registry.base import BaseDescription
    from perfusion_registry.build import Covariance
    from perfusion_registry.build.counted import Counted, Counts
    from perfusion_registry.cluster.address import ClusterAddress

ENOUGH = 1000
"""Captions below which a covariance is warned of."""


@dataclass(frozen=True, kw_only=True)
class CovarianceOptions:
    """What to estimate, and from what. captions: files, or `-` for standard input. out: the file to write.
    base: None is that of the project here, and the embedded one where there is no project.

    column: of captions in tables, by its name or number. limit: captions at most. padding: whether positions
    after a caption's end count. skip_bad: leave out unreadable rows, and count them. cluster: machines that
    count, if not this one alone.
    """

    captions: Sequence[str]
    out: Path
    base: str | None = None
    column: str | None = None
    limit: int | None = None
    padding: Literal["all", "none"] = "all"
    skip_bad: bool = False
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    cluster: ClusterAddress | None = None

    def __post_init__(self) -> None:
        """Raise PerfError where nothing can be written to `out`."""
        _require_folder(self.out)


@dataclass(frozen=True, kw_only=True)
class MergeOptions:
    """Which shards to merge: their files, all of one corpus, in any order. out: the file to write."""

    shards: Sequence[Path]
    out: Path

    def __post_init__(self) -> None:
        """Raise PerfError where nothing can be written to `out`."""
        _require_folder(self.out)


class CovarianceResult(Result):
    """`perf covariance`: where it went, and its card (see `CovarianceCard`).

    condition: None where C is singular; ridged: of C with the ridge that a metric adds. skipped_at: where the
    unreadable rows were; of shards that are merged only their number is known.
    """

    schema_: Literal["perf.covariance/1"] = named("perf.covariance/1")
    file: str
    base: str
    digest: str
    width: int
    condition: float | None
    skipped: int
    seconds: float
    corpus: str
    captions: int
    tokens: int
    positions: int
    padding: Literal["all", "none", "unknown"]
    padding_sample: int
    encoder: str
    ridged: InProcess[float]
    skipped_at: InProcess[tuple[str, ...]]


class CovarianceShardResult(Result):
    """`perf covariance --shard`: where the sums of a shard went, and what was counted for them.

    skipped: unreadable rows among all that were read, with those of other shards; skipped_at: where.
    """

    schema_: Literal["perf.covariance.shard/1"] = named("perf.covariance.shard/1")
    file: str
    base: str
    shard: str
    corpus: str
    corpus_captions: int
    captions: int
    tokens: int
    skipped: int
    seconds: float
    skipped_at: InProcess[tuple[str, ...]]


def estimate(options: CovarianceOptions, reporter: Reporter | None = None) -> CovarianceResult:
    """Estimate the covariance of a base's text encoder, and write it.

    A run that is interrupted resumes when it is given the same captions again.
    """
    begun, reporter = time.monotonic(), reporter or Silent()
    with _counting(options, WHOLE, reporter) as (counted, skipped, discard):
        covariance = counted.covariance()
        try:
            _check_rank(covariance, reporter)
        except PerfError:
            discard()  # of these captions, and no others
            raise
        result = _written(covariance, counted.counts, options.out, begun, skipped)
        discard()
    return result


def count_shard(
    options: CovarianceOptions, shard: Shard, reporter: Reporter | None = None
) -> CovarianceShardResult:
    """Count a shard of the captions for `merge`, and write the sums. It resumes as `estimate` does; it reads
    all captions, and encodes its own."""
    from perfusion_registry.build.counted import no_captions
    from perfusion_registry.build.estimation import WINDOW

    begun, reporter = time.monotonic(), reporter or Silent()
    with _counting(options, shard, reporter) as (counted, skipped, discard):
        counts = counted.counts
        if not counts.captions:
            raise no_captions()
        if not counts.counted:
            reporter.warn(
                f"shard {shard[0]}/{shard[1]} has nothing to encode: {counts.captions:,} captions are too "
                f"few for so many shards, which take {WINDOW:,} at a time"
            )
        counted.save(options.out)
        discard()
    return CovarianceShardResult(
        file=str(options.out),
        base=counts.base,
        shard=f"{shard[0]}/{shard[1]}",
        corpus=counts.corpus,
        corpus_captions=counts.captions,
        captions=counts.counted,
        tokens=counts.tokens,
        skipped=counts.skipped,
        skipped_at=tuple(skipped),
        seconds=round(time.monotonic() - begun, 3),
    )


@contextmanager
def _counting(
    options: CovarianceOptions, shard: Shard, reporter: Reporter
) -> Iterator[tuple[Counted, list[str], Callable[[], None]]]:
    """What was counted, where rows were left out, and what removes that from which it would be counted again:
    to be called once the result is written."""
    checkpoint = options.out.with_name(f".{options.out.name}.checkpoint")
    skipped: list[str] = []
    with Workspace.open(optional=True, reporter=reporter) as workspace:
        source = _source(options, workspace)
        if options.cluster is not None:
            from perfusion_registry.build.counted import no_captions
            from perfusion_registry.cluster.connection import require_ray

            source = sharable(source)
            require_ray()
            stream = source.read(skipped)
            _check_base(source.base, reporter)
            with reporter.stage("Reading captions"):
                captions = sum(1 for _ in stream)
            if not captions:
                raise no_captions()
            with counted_on(options.cluster, source, captions, workspace.store, reporter) as found:
                yield found[0], skipped, found[1]
            return
        stream = source.read(skipped)
        _check_base(source.base, reporter)
    counted = source.count(
        source.load(reporter), stream, skipped, shard=shard, checkpoint=checkpoint, reporter=reporter
    )
    yield counted, skipped, lambda: checkpoint.unlink(missing_ok=True)


def _source(options: CovarianceOptions, workspace: Workspace) -> CaptionSource:
    return CaptionSource(
        files=tuple(map(Path, options.captions)),
        base=workspace.base_or_own(options.base),
        column=options.column,
        limit=options.limit,
        padding=options.padding,
        skip_bad=options.skip_bad,
        compute=options.compute,
    )


def _check_base(base: BaseDescription, reporter: Reporter) -> None:
    """Raise PerfError where concepts cannot be learned on the base."""
    from perfusion_registry.base import require_trainable

    if "text" in base.draws:  # else it is made for inpainting, and concepts are transferred to it
        require_trainable(base)
    if base.prediction is not None:
        reporter.note(f"{base.repo}: {base.prediction.sentence}")


def merge(options: MergeOptions, reporter: Reporter | None = None) -> CovarianceResult:
    """Write the covariance of a corpus whose shards are all counted: to the byte the one of a single run.

    Raises PerfError for shards that do not belong together, and where one is missing.
    """
    from perfusion_registry.build.counted import merged

    begun = time.monotonic()
    counted = merged(options.shards)
    covariance = counted.covariance()
    _check_rank(covariance, reporter or Silent())
    return _written(covariance, counted.counts, options.out, begun, [])


def by_parts(
    options: CovarianceOptions, shard: str | None, merged: bool, reporter: Reporter | None = None
) -> CovarianceResult | CovarianceShardResult:
    """What `perf covariance` does: estimate, or count the shard `2/8`, or merge shards, whose files stand in
    the place of captions."""
    if not merged:
        if shard is None:
            return estimate(options, reporter)
        if options.cluster is not None:
            raise PerfError(
                "a cluster shares the captions out itself", where=f"--shard {shard}", hint="leave it out"
            )
        return count_shard(options, parse_shard(shard), reporter)
    files = tuple(map(Path, options.captions))
    if shard is not None or options != CovarianceOptions(
        captions=options.captions, out=options.out, compute=options.compute
    ):
        raise PerfError(
            "with --merge only the files of the shards and --out are said",
            hint="the base and how captions are read were said when the shards were counted",
        )
    return merge(MergeOptions(shards=files, out=options.out), reporter)


def _written(
    covariance: Covariance, counts: Counts, out: Path, begun: float, skipped: Sequence[str]
) -> CovarianceResult:
    from perfusion_registry.build import save_covariance

    save_covariance(covariance, out)
    condition = covariance.condition()
    return CovarianceResult(
        file=str(out),
        base=counts.base,
        digest=covariance.digest,
        width=covariance.width,
        condition=condition if condition != float("inf") else None,
        skipped=counts.skipped,
        seconds=round(time.monotonic() - begun, 3),
        ridged=ridged(covariance),
        skipped_at=tuple(skipped),
        **covariance.card.model_dump(exclude={"version", "text_weights"}),
    )


def _require_folder(out: Path) -> None:
    """Raise PerfError where a file cannot be written."""
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise PerfError(
            "this is a folder" if out.is_dir() else "the folder of the output file does not exist",
            where=str(out),
            hint="give --out the name of a file in a folder that exists",
        )
    require_writable(out, "choose another --out")
    require_own(out, "covariance", _read)


def _read(file: Path) -> object:
    """What a file holds that a command of covariances wrote: the sums of a shard, or a covariance."""
    from perfusion_registry.build.counted import counts_of
    from perfusion_registry.resolve.covariance import covariance_file

    return counts_of(file) or covariance_file(file).locked.shape


def ridged(covariance: Covariance) -> float:
    """The condition number of C with the ridge that `Metric` adds."""
    import torch

    values = torch.linalg.eigvalsh(covariance.metric().C)
    return float(values[-1] / values[0])


def _check_rank(covariance: Covariance, reporter: Reporter) -> None:
    """Raise PerfError where fewer tokens were counted than C has dimensions; warn of few captions."""
    card = covariance.card
    if card.tokens < covariance.width:
        raise PerfError(
            f"{card.captions:,} captions with {card.tokens:,} tokens cannot fill a covariance of "
            f"{covariance.width} x {covariance.width}",
            hint=f"give more: {ENOUGH:,} captions or more; the paper has 100,000 of LAION",
        )
    if card.captions < ENOUGH:
        reporter.warn(
            f"{card.captions:,} captions are few for a covariance of {covariance.width} x {covariance.width};"
            f" {ENOUGH:,} and more are wanted; the paper has 100,000 of LAION"
        )
