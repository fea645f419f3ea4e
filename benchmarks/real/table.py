"""The table of a comparison: one row for each method, means over its subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

COLUMNS = {
    "seconds": ("seconds to learn", "{:.0f}"),
    "peak_gib": ("GiB, learning", "{:.2f}"),
    "bytes": ("KB", "{:.0f}"),
    "seconds_per_picture": ("seconds a picture", "{:.2f}"),
    "image": ("CLIP image", "{:.3f}"),
    "text": ("CLIP text", "{:.3f}"),
    "dino": ("DINO", "{:.3f}"),
}
Rows = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""What was measured, by method and subject."""


def summary(rows: Rows) -> dict[str, dict[str, float]]:
    """Of each method the mean over the subjects of what was measured of all of them."""
    found: dict[str, dict[str, float]] = {}
    for method, subjects in rows.items():
        each = list(subjects.values())
        found[method] = {
            key: fmean(one[key] for one in each)
            for key in COLUMNS
            if each and all(key in one for one in each)
        }
    return found


def markdown(rows: Rows, about: Mapping[str, Any], failed: Sequence[str]) -> str:
    """The table, what it was measured on, each subject, and what is missing."""
    lines = ["# Learning and drawing, measured", ""]
    lines += [f"- {name}: {value}" for name, value in about.items()]
    lines += ["", _table(summary(rows), "method")]
    interrupted = [
        f"{m}, {s}" for m, each in rows.items() for s, one in each.items() if one.get("interrupted")
    ]
    if interrupted:
        lines += ["", "Killed on the way, so that their seconds are too few: " + "; ".join(interrupted) + "."]
    if failed:
        lines += ["", "Not measured:", "", *(f"- {what}" for what in failed)]
    for method, each in rows.items():
        lines += ["", f"## {method}", "", _table(each, "subject")]
    return "\n".join(lines) + "\n"


def _table(rows: Mapping[str, Mapping[str, Any]], first: str) -> str:
    shown = {key: told for key, told in COLUMNS.items() if any(key in row for row in rows.values())}
    lines = [
        f"| {first} | {' | '.join(name for name, _ in shown.values())} |",
        "|---" * (len(shown) + 1) + "|",
    ]
    for name, row in rows.items():
        cells = [
            form.format(row[key] / (1000 if key == "bytes" else 1)) if key in row else ""
            for key, (_, form) in shown.items()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
