"""`covariance`: estimate a text encoder's second moment from captions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from perfusion_registry.errors import PerfError
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.result import InProcess, Result, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.reporter import Reporter, Silent

if TYPE_CHECKING:
    from perfusion_registry.build import Covariance

ENOUGH = 1000
"""Captions below which a covariance is warned of."""


@dataclass(frozen=True, kw_only=True)
class CovarianceOptions:
    """What to estimate, and from what. captions: files, or `-` for standard input. out: the file to write.
    base: None is that of the project here, and the embedded one where there is no project.

    column: of captions in tables, by its name or number. limit: captions at most. padding: whether positions
    after a caption's end count. skip_bad: leave out unreadable rows, and count them.
    """

    captions: Sequence[str]
    out: Path
    base: str | None = None
    column: str | None = None
    limit: int | None = None
    padding: Literal["all", "none"] = "all"
    skip_bad: bool = False
    compute: ComputeOptions = field(default_factory=ComputeOptions)

    def __post_init__(self) -> None:
        """Raise PerfError where nothing can be written to `out`."""
        if self.out.is_dir() or not self.out.absolute().parent.is_dir():
            raise PerfError(
                "this is a folder" if self.out.is_dir() else "the folder of the output file does not exist",
                where=str(self.out),
                hint="give --out the name of a file in a folder that exists",
            )


class CovarianceResult(Result):
    """`perf covariance`: where it went, and its card (see `CovarianceCard`).

    condition: None where C is singular; ridged: of C with the ridge that a metric adds. skipped_at: where the
    unreadable rows were.
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


def estimate(options: CovarianceOptions, reporter: Reporter | None = None) -> CovarianceResult:
    """Estimate the covariance of a base's text encoder, and write it.

    A run that is interrupted resumes when it is given the same captions again.
    """
    from perfusion_registry.base import require_trainable
    from perfusion_registry.build import read_captions

    begun, reporter = time.monotonic(), reporter or Silent()
    skipped: list[str] = []
    skip = (lambda where, why: skipped.append(where)) if options.skip_bad else None
    stream = read_captions(options.captions, options.column, skip)
    stream = chain(list(islice(stream, 1)), stream)  # what cannot be read is reported now
    with Workspace.open(optional=True, reporter=reporter) as workspace:
        description = workspace.base_or_own(options.base)
    if "text" in description.draws:  # else it is made for inpainting, and concepts are transferred to it
        require_trainable(description)
    if description.prediction is not None:
        reporter.note(f"{description.repo}: {description.prediction.sentence}")

    from perfusion_registry.base import load_base
    from perfusion_registry.build import estimate_covariance, save_covariance

    with reporter.stage(f"Loading {description.repo}"):
        base = load_base(description, device=options.compute.device, dtype=options.compute.dtype)
    checkpoint = options.out.with_name(f".{options.out.name}.checkpoint")
    covariance: Covariance = estimate_covariance(
        base,
        stream if options.limit is None else islice(stream, options.limit),
        padding=options.padding,
        total=options.limit,
        checkpoint=checkpoint,
        reporter=reporter,
    )
    try:
        _check_rank(covariance, reporter)
    except PerfError:
        checkpoint.unlink(missing_ok=True)  # of these captions, and no others
        raise
    save_covariance(covariance, options.out)
    checkpoint.unlink(missing_ok=True)
    condition = covariance.condition()
    return CovarianceResult(
        file=str(options.out),
        base=description.repo,
        digest=covariance.digest,
        width=covariance.width,
        condition=condition if condition != float("inf") else None,
        skipped=len(skipped),
        seconds=round(time.monotonic() - begun, 3),
        ridged=ridged(covariance),
        skipped_at=tuple(skipped),
        **covariance.card.model_dump(exclude={"version", "text_weights"}),
    )


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
