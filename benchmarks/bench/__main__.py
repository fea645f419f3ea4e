"""Everything that is measured, side by side in one run: a page, a file, and what became worse.

    python -m benchmarks.bench                       # all rows: some ten minutes of an idle machine
    python -m benchmarks.bench --only "training step" --turns 20
    python -m benchmarks.bench --page docs/bench.md --json docs/bench.json

What `--json` names is read first: where a row's whole interval lies above the one there, from the same
machine, it is told, with a profile of it, the earlier one stays, and the exit status is 1. `--accept` has the
later ones stay.
"""

from __future__ import annotations

import argparse
import cProfile
import io
import pstats
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench import captions, commands, drawing, memory, prior_art, training
from benchmarks.bench.report import Run, worse
from benchmarks.bench.turns import Row, measure

PARTS = (drawing, prior_art, training, captions, commands, memory)
SHOWN = 15


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    parser.add_argument("--turns", type=int, default=11)
    parser.add_argument("--page", type=Path, default=Path("out/bench.md"))
    parser.add_argument("--json", type=Path, default=Path("out/bench.json"))
    parser.add_argument("--accept", action="store_true", help="keep what became worse as what it is now")
    given = parser.parse_args(arguments)
    rows = {row.name: row for part in PARTS for row in part.rows() if given.only in row.name}
    if not rows:
        parser.error(f"no row has {given.only!r} in its name")
    for path in (given.page, given.json):
        path.parent.mkdir(parents=True, exist_ok=True)
    before, now = Run.read(given.json), Run.here(())
    for row in rows.values():
        one = measure(row, given.turns)
        print(f"{one.name}: {one.ratio:.3g} ({one.low:.3g} to {one.high:.3g})", flush=True)
        now = Run.here([*now.results, one])
        kept = now.after(
            before, accept=given.accept
        )  # written after each row, so that a run that ends early leaves what it has
        given.page.write_text(kept.page(), encoding="utf-8")
        kept.write(given.json)
    found = worse(now, before)
    for one, was in found:
        print(f"worse: {one.name}: {one.low:.3g} to {one.high:.3g}, after {was.low:.3g} to {was.high:.3g}")
        print(profile(rows[one.name]))
    return 1 if found else 0


def profile(row: Row) -> str:
    """Where the time of ours goes: the functions that take most of it themselves."""
    profiler, said = cProfile.Profile(), io.StringIO()
    with row.prepare() as (ours, _):
        ours()
        profiler.runcall(ours)
    pstats.Stats(profiler, stream=said).sort_stats("tottime").print_stats(SHOWN)
    return said.getvalue()


if __name__ == "__main__":
    sys.exit(main())
