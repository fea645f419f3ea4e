"""Every architecture through everything that perf does with a base, beside models that are edited by hand.

    python -m benchmarks.matrix                                  # a few minutes; writes out/matrix.{md,json}
    python -m benchmarks.matrix --only "SDXL" --column residual  # one cell, on the screen
    python -m benchmarks.matrix --page docs/matrix.md            # the page of the documentation too

Ends with 1 where a cell is not good.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.matrix.cells import COLUMNS, Cell, filled
from benchmarks.matrix.rows import KINDS_BY_NAME, Row
from benchmarks.matrix.table import as_json, markdown, said
from perfusion_registry.base.pretrained import quiet


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", choices=KINDS_BY_NAME, help="an architecture; all by default"
    )
    parser.add_argument("--column", action="append", choices=COLUMNS, help="a column")
    parser.add_argument("--out", type=Path, default=Path("out/matrix"), help="where .md and .json go")
    parser.add_argument("--page", type=Path, help="write the Markdown here too")
    arguments = parser.parse_args()
    matrix = measure(arguments.only or list(KINDS_BY_NAME), arguments.column or list(COLUMNS))
    page = markdown(matrix)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".json").write_text(json.dumps(as_json(matrix), indent=2) + "\n", "utf-8")
    for path in (arguments.out.with_suffix(".md"), arguments.page):
        if path is not None:
            path.write_text(page, "utf-8")
    cells = [(name, column, cell) for name, row in matrix.items() for column, cell in row.items()]
    bad = [f"{name}: {column}" for name, column, cell in cells if not cell.good]
    print(
        f"{len(cells) - len(bad)} of {len(cells)} cells are good" + (f"; not {', '.join(bad)}" if bad else "")
    )
    sys.exit(1 if bad else 0)


def measure(names: list[str], columns: list[str]) -> dict[str, dict[str, Cell]]:
    """The cells, told one by one."""
    matrix: dict[str, dict[str, Cell]] = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            row = Row(name, Path(folder))
            for column in columns:
                began = time.monotonic()
                with quiet():
                    matrix.setdefault(name, {})[column] = filled(column, row)
                seconds, told = time.monotonic() - began, said(matrix[name][column])
                print(f"{name:<13} {column:<16} {seconds:5.1f} s  {told}", flush=True)
    return matrix


if __name__ == "__main__":
    main()
