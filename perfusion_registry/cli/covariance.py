"""`perf covariance`: estimate a text encoder's second moment from captions."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfusion_registry.cli.options import BASE_HELP, DeviceOption, DtypeOption, JsonOption, QuietOption
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from perfusion_registry.build import Covariance


class Padding(StrEnum):
    """What becomes of the positions after a caption's end."""

    all = "all"
    none = "none"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("covariance")(covariance)


def covariance(
    captions: Annotated[
        list[str],
        typer.Argument(
            metavar="CAPTIONS",
            help="Files of captions: txt, csv, tsv, parquet, each also .gz; - is standard input.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write.")],
    base: Annotated[str, typer.Option(metavar="BASE", help=BASE_HELP)] = "storybook",
    column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The column of captions, or its number in a file without a header."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Stop after so many captions.")
    ] = None,
    padding: Annotated[
        Padding, typer.Option(metavar="all|none", help="Whether positions after a caption's end count.")
    ] = Padding.all,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out unreadable rows, and count them.")
    ] = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Estimate the covariance of a base's text encoder.

    It is the second moment of the encodings of many captions.
    A run that is interrupted resumes when it is given the same captions again.
    """
    begun = time.monotonic()
    if out.is_dir() or not out.absolute().parent.is_dir():
        what = "this is a folder" if out.is_dir() else "the folder of the output file does not exist"
        raise PerfError(what, where=str(out), hint="give --out the name of a file in a folder that exists")
    from itertools import chain, islice

    from perfusion_registry.base import describe_base
    from perfusion_registry.build import read_captions
    from perfusion_registry.cli import console

    skipped: list[str] = []
    stream = read_captions(captions, column, (lambda where, why: skipped.append(where)) if skip_bad else None)
    stream = chain(list(islice(stream, 1)), stream)  # what cannot be read is told now
    reporter = console.reporter(quiet or as_json)
    description = describe_base(base)

    from perfusion_registry.base import load_base
    from perfusion_registry.build import estimate_covariance, save_covariance

    with reporter.stage(f"Loading {description.repo}"):
        loaded = load_base(description, device=device, dtype=dtype)
    checkpoint = out.with_name(f".{out.name}.checkpoint")
    found: Covariance = estimate_covariance(
        loaded,
        stream if limit is None else islice(stream, limit),
        padding=padding.value,
        total=limit,
        checkpoint=checkpoint,
        reporter=reporter,
    )
    save_covariance(found, out)
    checkpoint.unlink(missing_ok=True)
    _tell(found, out, description.repo, skipped, time.monotonic() - begun, as_json=as_json)


def _tell(
    found: Covariance, out: Path, base: str, skipped: list[str], seconds: float, *, as_json: bool
) -> None:
    from perfusion_registry.cli import console

    condition = found.condition()
    if as_json:
        said = {
            "file": str(out),
            "base": base,
            "digest": found.digest,
            "width": found.width,
            "condition": condition if condition != float("inf") else None,
            "skipped": len(skipped),
            "seconds": round(seconds, 3),
            **found.card.model_dump(mode="json", exclude={"version"}),
        }
        console.say_json("perf.covariance/1", said)
        return
    card = found.card
    counted = f"{card.positions:,} positions" if card.padding == "all" else "no padding"
    console.say(f"Wrote {out}: {found.width} x {found.width}, {console.size(out.stat().st_size)}")
    console.say(f"{card.captions:,} captions, {card.tokens:,} tokens, {counted}")
    console.say(f"condition number {condition:.3g}; with the ridge of 1 %, {ridged(found):.3g}")
    if skipped:
        console.say(f"left out {len(skipped):,} unreadable rows, the first at {skipped[0]}")
    console.say(f"Done in {console.duration(seconds)}")


def ridged(found: Covariance) -> float:
    """The condition number of C with the ridge that `Metric` adds."""
    import torch

    values = torch.linalg.eigvalsh(found.metric().C)
    return float(values[-1] / values[0])
