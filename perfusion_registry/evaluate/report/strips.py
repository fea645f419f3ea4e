"""Pictures side by side, and lit where the concept's word drew attention."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfusion_registry.evaluate.budget import spread
from perfusion_registry.evaluate.metrics import METRICS, told
from perfusion_registry.evaluate.report import inlined
from perfusion_registry.evaluate.results import FigureResult, ImageRecord, Results, spoken

ROWS = 6
"""How many prompts the strips of a figure show."""
COLUMNS = 12


@dataclass(frozen=True)
class Shown:
    """A picture as a data URL. alt: what it is, for those who do not see it. title: what it says where it is
    pointed at. below: a line under it."""

    source: str
    alt: str
    title: str = ""
    below: str = ""


@dataclass(frozen=True)
class Row:
    """A prompt, the pictures that its concepts were learned from, and a picture, or none, for each column.
    references: None in grids without such a column."""

    label: str
    references: tuple[Shown, ...] | None
    pictures: tuple[Shown | None, ...]


@dataclass(frozen=True)
class PictureGrid:
    """Pictures in rows and columns."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[Row, ...]
    caption: str


def strips(
    results: Results, figure: FigureResult, records: Sequence[ImageRecord], folder: Path
) -> PictureGrid:
    """A prompt in each row, an operating point (or, of one, a seed) in each column."""
    points = [point.label for point in figure.points]
    gated = [label for label in points if label != "supercategory"]
    seeds = sorted({record.seed for record in records})
    by_seed = len(gated) == 1
    every = [(gated[0], seed) for seed in seeds] if by_seed else [(label, seeds[0]) for label in points]
    columns = spread(every, COLUMNS)
    heads = [f"seed {seed}" if by_seed else spoken(label) for label, seed in columns]
    pictures = {(r.concepts, r.group, r.template, r.point, r.seed): r for r in records}
    rows = []
    for concepts, group, template in _subjects(records):
        shown = [pictures.get((concepts, group, template, *column)) for column in columns]
        # The prompt with its stars, where a column has one; the plain words would do for all of them.
        prompts = [record.prompt for record in shown if record is not None]
        label = next((prompt for prompt in prompts if "*" in prompt), prompts[0])
        references = tuple(_references(results, figure, concepts, folder))
        rows.append(Row(label, references, tuple(_picture(folder, record) for record in shown)))
    caption = "Every seed." if by_seed else "The first seed of every prompt; nothing is picked by eye."
    if len(columns) < len(every):
        caption = f"{len(columns)} of {len(every)} columns, evenly spread. {caption}"
    return PictureGrid("Pictures", ("learned from", *heads), tuple(rows), caption)


def overlays(records: Sequence[ImageRecord], folder: Path) -> PictureGrid | None:
    """Pictures lit where the concept's word drew attention; None where no attention was kept."""
    seen = [record for record in records if record.attention is not None]
    if not seen:
        return None
    first = min(record.seed for record in seen)
    points = list(dict.fromkeys(record.point for record in seen))
    pictures = {(r.concepts, r.group, r.template, r.point): r for r in seen if r.seed == first}
    rows = []
    for subject in _subjects(seen):
        shown = [pictures.get((*subject, point)) for point in points]
        label = next(record.prompt for record in shown if record is not None)
        rows.append(Row(label, None, tuple(_lit(folder, record) for record in shown)))
    return PictureGrid(
        "Where the concept’s word looks",
        tuple(map(spoken, points)),
        tuple(rows),
        "Lit where its tokens draw attention, over all layers and steps; below each, how much of that "
        "attention falls outside the concept.",
    )


def _subjects(records: Sequence[ImageRecord]) -> tuple[tuple[tuple[str, ...], str, str], ...]:
    """Concepts, a group of prompts and one of its templates, evenly spread over all there are."""
    rows = list(dict.fromkeys((record.concepts, record.group, record.template) for record in records))
    return spread(rows, ROWS)


def _references(
    results: Results, figure: FigureResult, names: Sequence[str], folder: Path
) -> Iterator[Shown]:
    """A picture of each concept that it was learned from."""
    for name in names:
        for concept in results.concepts:
            if concept.figure == figure.id and concept.name == name:
                yield Shown(inlined.picture(folder / concept.images[0]), f"{name}, as it was learned from")
                break


def _picture(folder: Path, record: ImageRecord | None) -> Shown | None:
    if record is None:
        return None
    scores = ", ".join(f"{METRICS[m].title} {told(m, v)}" for m, v in record.metrics.items())
    return Shown(inlined.picture(folder / record.picture), _described(record), scores)


def _lit(folder: Path, record: ImageRecord | None) -> Shown | None:
    if record is None or record.attention is None:
        return None
    lit = inlined.spotlit(folder / record.picture, folder / record.attention)
    leaked = record.metrics.get("leakage")
    below = f"{told('leakage', leaked)} outside" if leaked is not None else ""
    return Shown(lit, f"attention in {_described(record)}", below=below)


def _described(record: ImageRecord) -> str:
    """Which picture it is, for those who do not see it."""
    return f"“{record.prompt}”, {spoken(record.point)}, seed {record.seed}"
