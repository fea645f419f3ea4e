"""Pictures side by side, and lit where the concept's word drew attention."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from perfusion_registry.evaluate.budget import spread
from perfusion_registry.evaluate.metrics import METRICS, told
from perfusion_registry.evaluate.report import inlined
from perfusion_registry.evaluate.results import FigureResult, ImageRecord, Results, spoken

ROWS = 6
"""How many prompts the strips of a figure show."""
COLUMNS = 12

Row = tuple[tuple[str, ...], str, str]
"""A subject, a group of prompts and one of its templates."""


def strips(results: Results, figure: FigureResult, records: Sequence[ImageRecord], folder: Path) -> str:
    """A prompt in each row, an operating point (or, of one, a seed) in each column."""
    points = [point.label for point in figure.points]
    gated = [label for label in points if label != "supercategory"]
    seeds = sorted({record.seed for record in records})
    by_seed = len(gated) == 1
    every = [(gated[0], seed) for seed in seeds] if by_seed else [(label, seeds[0]) for label in points]
    columns = spread(every, COLUMNS)
    heads = [f"seed {seed}" if by_seed else spoken(label) for label, seed in columns]
    pictures = {(r.concepts, r.group, r.template, r.point, r.seed): r for r in records}
    cells = []
    for concepts, group, template in _rows(records):
        shown = [pictures.get((concepts, group, template, *column)) for column in columns]
        # The prompt with its stars, where a column has one; the plain words would do for all of them.
        prompts = [record.prompt for record in shown if record is not None]
        cells.append(_label(next((prompt for prompt in prompts if "*" in prompt), prompts[0])))
        references = "".join(_references(results, figure, concepts, folder))
        cells.append(f'<div class="reference">{references}</div>')
        cells += [_picture(folder, record) for record in shown]
    caption = "Every seed" if by_seed else "The first seed of every prompt; nothing is picked by eye"
    if len(columns) < len(every):
        caption = f"{len(columns)} of {len(every)} columns, evenly spread. {caption}"
    grid = _grid(["learned from", *heads], cells)
    return f"<h3>Pictures</h3>{grid}<figcaption>{escape(caption)}.</figcaption>"


def overlays(records: Sequence[ImageRecord], folder: Path) -> str:
    """Pictures lit where the concept's word drew attention; nothing where no attention was kept."""
    seen = [record for record in records if record.attention is not None]
    if not seen:
        return ""
    first = min(record.seed for record in seen)
    points = list(dict.fromkeys(record.point for record in seen))
    pictures = {(r.concepts, r.group, r.template, r.point): r for r in seen if r.seed == first}
    cells = []
    for row in _rows(seen):
        shown = [pictures.get((*row, point)) for point in points]
        cells.append(_label(next(record.prompt for record in shown if record is not None)))
        cells += [_lit(folder, record) for record in shown]
    return (
        f"<h3>Where the concept&rsquo;s word looks</h3>{_grid([spoken(p) for p in points], cells)}"
        "<figcaption>Lit where its tokens draw attention, over all layers and steps; below each, how much of "
        "that attention falls outside the concept.</figcaption>"
    )


def _grid(heads: Sequence[str], cells: Sequence[str]) -> str:
    """A label and as many cells as there are heads in each row."""
    top = "".join(f'<div class="head">{escape(head)}</div>' for head in ("", *heads))
    return (
        '<div class="scroll wide"><div class="strip" '
        f'style="grid-template-columns: repeat({len(heads) + 1}, auto)">{top}{"".join(cells)}</div></div>'
    )


def _label(prompt: str) -> str:
    return f'<div class="label">{escape(prompt)}</div>'


def _rows(records: Sequence[ImageRecord]) -> tuple[Row, ...]:
    """Subjects and prompts to show, evenly spread over all there are."""
    rows = list(dict.fromkeys((record.concepts, record.group, record.template) for record in records))
    return spread(rows, ROWS)


def _references(results: Results, figure: FigureResult, names: Sequence[str], folder: Path) -> Iterator[str]:
    """A picture of each concept that it was learned from."""
    for name in names:
        for concept in results.concepts:
            if concept.figure == figure.id and concept.name == name:
                image, alt = inlined.picture(folder / concept.images[0]), f"{name}, as it was learned from"
                yield f'<img loading="lazy" alt="{escape(alt)}" src="{image}">'
                break


def _picture(folder: Path, record: ImageRecord | None) -> str:
    if record is None:
        return "<div></div>"
    scores = ", ".join(f"{METRICS[m].title} {told(m, v)}" for m, v in record.metrics.items())
    return (
        f'<div><img loading="lazy" alt="{escape(_described(record))}" title="{escape(scores)}" '
        f'src="{inlined.picture(folder / record.picture)}"></div>'
    )


def _lit(folder: Path, record: ImageRecord | None) -> str:
    if record is None or record.attention is None:
        return "<div></div>"
    lit = inlined.spotlit(folder / record.picture, folder / record.attention)
    leaked = record.metrics.get("leakage")
    caption = f"{told('leakage', leaked)} outside" if leaked is not None else ""
    return (
        f'<div><img loading="lazy" alt="attention in {escape(_described(record))}" src="{lit}">'
        f"{escape(caption)}</div>"
    )


def _described(record: ImageRecord) -> str:
    """Which picture it is, for those who do not see it."""
    return f"“{record.prompt}”, {spoken(record.point)}, seed {record.seed}"
