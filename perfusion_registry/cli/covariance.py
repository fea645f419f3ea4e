"""`perf covariance`: estimate a text encoder's second moment from captions."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from perfusion_registry.cli import console
from perfusion_registry.cli.help import argument, flag, option
from perfusion_registry.cli.options import (
    BASE_HELP,
    Compute,
    OtherMachines,
    ShardOption,
    StandaloneWithProgress,
)

if TYPE_CHECKING:
    from perfusion_registry.operations.covariance import CovarianceResult, CovarianceShardResult


class Padding(StrEnum):
    """What becomes of the positions after a caption's end."""

    all = "all"
    none = "none"


def covariance(
    compute: Compute,
    output: StandaloneWithProgress,
    machines: OtherMachines,
    captions: Annotated[
        list[str],
        argument(
            "CAPTIONS",
            "Files of captions: txt, csv, tsv, parquet, each also .gz; - is standard input. "
            "With --merge, the files of all shards.",
        ),
    ],
    out: Annotated[Path, option("FILE", "The file to write.")],
    base: Annotated[
        str | None, option("BASE", BASE_HELP, default="the project's, or storybook where there is none")
    ] = None,
    column: Annotated[
        str | None, option("NAME", "The column of captions, or its number in a file without a header.")
    ] = None,
    limit: Annotated[int | None, option("N", "Stop after so many captions.", min=1)] = None,
    padding: Annotated[
        Padding, option("all|none", "Whether positions after a caption's end count.")
    ] = Padding.all,
    skip_bad: Annotated[bool, flag("Leave out unreadable rows, and count them.", "--skip-bad")] = False,
    shard: ShardOption = None,
    merge: Annotated[bool, flag("Merge what was counted of all shards.", "--merge")] = False,
) -> None:
    """Estimate the covariance of a base's text encoder.

    It is the second moment of the encodings of many captions.
    A run that is interrupted resumes when it is given the same captions again.
    """
    from perfusion_registry.operations.covariance import CovarianceOptions, by_parts

    options = CovarianceOptions(
        captions=captions,
        out=out,
        base=base,
        column=column,
        limit=limit,
        padding=padding.value,
        skip_bad=skip_bad,
        compute=compute.read(),
        cluster=machines.read(),
    )
    output.show(by_parts(options, shard, merge, console.reporter(output.quiet or output.as_json)), _tell)


def _tell(result: CovarianceResult | CovarianceShardResult) -> None:
    if result.schema_ == "perf.covariance.shard/1":
        console.say(f"Wrote {result.file}: what was counted of shard {result.shard}")
        console.say(f"{result.captions:,} of {result.corpus_captions:,} captions, {result.tokens:,} tokens")
        _tell_skipped(result)
        console.say("When all are there: `perf covariance --merge FILES --out FILE`")
        return
    counted = f"{result.positions:,} positions" if result.padding == "all" else "no padding"
    size, condition = console.size(Path(result.file).stat().st_size), result.condition or float("inf")
    console.say(f"Wrote {result.file}: {result.width} x {result.width}, {size}")
    console.say(f"{result.captions:,} captions, {result.tokens:,} tokens, {counted}")
    console.say(f"condition number {condition:.3g}; with the ridge of 1 %, {result.ridged:.3g}")
    _tell_skipped(result)
    console.say(f"Done in {console.duration(result.seconds)}")


def _tell_skipped(result: CovarianceResult | CovarianceShardResult) -> None:
    if result.skipped:
        first = f", the first at {result.skipped_at[0]}" if result.skipped_at else ""
        console.say(f"left out {result.skipped:,} unreadable rows{first}")
