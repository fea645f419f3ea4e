"""Where an operation computes, and with which numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ComputeOptions:
    """Where to compute, and with which numbers: names as `load_base` takes them. threads: that this process
    was asked to have; None where nobody asked, and an interrupted training goes on with as many as it had.
    """

    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None
