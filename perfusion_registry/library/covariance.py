"""The covariance of a base's text encoder, which Perfusion needs once for each base."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from perfusion_registry.reporter import Logging, Reporter

if TYPE_CHECKING:
    from perfusion_registry.operations.covariance import CovarianceResult


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
    reporter: Reporter | None = None,
) -> CovarianceResult:
    """Estimate the covariance of a base's text encoder from captions, into a file that `[project]` can name.

    captions: files of text, one a line, or tables (CSV, TSV, JSON Lines, Parquet). out: the file to write.
    base: as in a manifest; None for that of the project here, or "storybook" where there is none. column: of
    the captions in tables, by its name or number. limit: captions at most. padding: whether positions after a
    caption's end count. skip_bad: leave out unreadable rows, and count them. device, dtype: as in
    `Project.build`. A run that is interrupted resumes when it is given the same captions again. Raises
    PerfError.
    """
    from perfusion_registry.operations.compute import ComputeOptions
    from perfusion_registry.operations.covariance import CovarianceOptions, estimate

    files = (captions,) if isinstance(captions, str | Path) else captions
    options = CovarianceOptions(
        captions=tuple(map(str, files)),
        out=Path(out),
        base=base,
        column=column,
        limit=limit,
        padding=padding,
        skip_bad=skip_bad,
        compute=ComputeOptions(device, dtype),
    )
    return estimate(options, reporter or Logging())
