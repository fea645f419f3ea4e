"""A run's results as a page, as JSON, and beside an earlier run of the same machine."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.bench.turns import Measured
from benchmarks.sd15 import machine

HEAD = """\
# What things cost

Written by `make bench`: each row was measured in turns with its baseline, in one run on one machine. The
ratio is the median of the turns' ratios, with its 95 % interval; the times are this machine's.

| ours | beside | ours | baseline | ratio | 95 % | aim |
|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Run:
    """What was measured where. machine: the processor, its cores, the threads used, and PyTorch's version."""

    machine: str
    results: tuple[Measured, ...]

    @classmethod
    def here(cls, results: Iterable[Measured]) -> Run:
        """A run of this process."""
        cores = os.cpu_count()
        threads = torch.get_num_threads()
        name = machine(torch.device("cpu"))
        about = f"{name}, {cores} cores, {threads} threads, {platform.system()}, PyTorch {torch.__version__}"
        return cls(about, tuple(results))

    @classmethod
    def read(cls, path: Path) -> Run | None:
        """An earlier run; None where there is none."""
        if not path.exists():
            return None
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(values["machine"], tuple(Measured(**row) for row in values["results"]))

    def after(self, before: Run | None, *, accept: bool) -> Run:
        """What is kept of this run and an earlier one of the same machine: rows that were not measured again,
        and, unless `accept`, those that became worse, are the earlier one's."""
        if before is None or before.machine != self.machine:
            return self
        own = {one.name: one for one in self.results}
        if not accept:
            own |= {was.name: was for _, was in worse(self, before)}
        rows = {one.name: one for one in before.results} | own
        return Run(self.machine, tuple(rows.values()))

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def page(self) -> str:
        """As Markdown."""
        return HEAD + "\n".join(map(_line, self.results)) + f"\n\nMeasured on {self.machine}.\n"


def worse(now: Run, before: Run | None) -> Sequence[tuple[Measured, Measured]]:
    """What is worse than before, each with what it was: only where the whole interval lies above the earlier
    one, of the same machine."""
    if before is None or before.machine != now.machine:
        return ()
    known = {one.name: one for one in before.results}
    return [
        (one, known[one.name]) for one in now.results if one.name in known and one.low > known[one.name].high
    ]


def _line(one: Measured) -> str:
    ours, beside = one.name.split(" / ")
    aim = "" if one.aim is None else f"{one.aim:.2f}" + (" (missed)" if one.missed else "")
    cells = (
        ours,
        beside,
        _amount(one.ours, one.unit),
        _amount(one.beside, one.unit),
        f"**{_ratio(one.ratio)}**",
        f"{_ratio(one.low)} to {_ratio(one.high)}, {one.turns} turns",
        aim,
    )
    return f"| {' | '.join(cells)} |"


def _ratio(value: float) -> str:
    """Of three digits, and never as a power of ten."""
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def _amount(value: float, unit: str) -> str:
    if unit == "ms" and value >= 10_000:
        return f"{value / 1000:,.1f} s"
    return f"{value:,.3g} {unit}" if value < 1000 else f"{value:,.0f} {unit}"
