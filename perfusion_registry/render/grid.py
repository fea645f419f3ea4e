"""Sweeps: one prompt and seed over a grid of two settings, such as the paper's Figure 7 of gates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from perfusion_registry.compose.composition import Composition
from perfusion_registry.methods.settings import Axis
from perfusion_registry.methods.table import find_method
from perfusion_registry.render import canvas
from perfusion_registry.render.canvas import GAP, MARGIN, PAPER, QUIET
from perfusion_registry.reporter import Reporter, Silent

if TYPE_CHECKING:
    from perfusion_registry.artifact import Artifact
    from perfusion_registry.base import Base
    from perfusion_registry.render.draw import Rendered
    from perfusion_registry.render.request import RenderRequest

TILE = 256
TITLE, AXIS, LABEL = 34, 16, 20


@dataclass(frozen=True)
class SweepCell:
    """One picture of a sweep, and the values that it was drawn with. down: None where it has one row."""

    across: float
    down: float | None
    rendered: Rendered


@dataclass(frozen=True)
class Axes:
    """What is swept, from left to right and from top to bottom. down: None for one row."""

    across: Axis
    down: Axis | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The settings that are swept."""
        return (self.across.key,) if self.down is None else (self.across.key, self.down.key)

    @property
    def places(self) -> list[tuple[float, float | None]]:
        """The values of each cell, row by row."""
        rows = (None,) if self.down is None else self.down.values
        return [(x, y) for y in rows for x in self.across.values]

    def settings(self, across: float, down: float | None) -> dict[str, float]:
        """What a cell sets, by key."""
        below = {} if self.down is None or down is None else {self.down.key: down}
        return {self.across.key: across} | below


def swept(composition: Composition, names: Sequence[str], values: Mapping[str, float]) -> Composition:
    """Return the composition with settings of the concepts `names` changed. said: by key.

    Raises PerfError for a concept whose method does not have them.
    """
    changed = []
    for concept in composition.concepts:
        if concept.name in names:
            method, name = find_method(concept.method), concept.name
            place = {method.setting(key, name).field: value for key, value in values.items()}
            render = method.set_options(name, concept.render, [method.checked(place, name)])
            concept = concept.model_copy(update={"render": render})
        changed.append(concept)
    return composition.model_copy(update={"concepts": tuple(changed)})


def sweepable(composition: Composition, axes: Axes) -> list[str]:
    """The concepts of a composition that have the settings that are swept."""
    return [
        concept.name
        for concept in composition.concepts
        if all(find_method(concept.method).has_setting(concept.render, key) for key in axes.keys)
    ]


def sweep(
    base: Base,
    composition: Composition,
    request: RenderRequest,
    artifacts: Mapping[str, Artifact],
    axes: Axes,
    *,
    names: Sequence[str] | None = None,
    reporter: Reporter | None = None,
) -> Iterator[SweepCell]:
    """Draw the request's first seed with every value across under every value down, row by row.

    names: the concepts that vary; by default all that have these settings. Yields a cell for each pair.
    """
    from perfusion_registry.render.draw import render

    varied = names if names is not None else sweepable(composition, axes)
    first = request.model_copy(update={"seeds": request.seeds[:1], "batch": 1})
    total = len(axes.places)
    with (reporter or Silent()).stage(f"Sweeping {total} pictures", total=total) as stage:
        for x, y in axes.places:
            values = axes.settings(x, y)
            (rendered,) = render(base, swept(composition, varied, values), first, artifacts)
            stage.advance(note=", ".join(f"{key} {value:g}" for key, value in values.items()))
            yield SweepCell(x, y, rendered)


def sweep_sheet(
    title: str, cells: Sequence[SweepCell], keys: Sequence[str], *, note: str = ""
) -> Image.Image:
    """Lay out a sweep as a table: one setting from left to right, one from top to bottom, both labelled.

    cells: at least one. keys: of the settings. A pair that was not drawn leaves its place empty.
    """
    columns = sorted({cell.across for cell in cells})
    rows = sorted({cell.down for cell in cells}, key=lambda value: value or 0.0)
    labels = ["" if value is None else f"{value:g}" for value in rows]
    below = keys[1] if len(keys) > 1 else ""
    size = canvas.tile_size(cells[0].rendered.image, TILE)
    side = max(canvas.text_width(label, LABEL) for label in labels) + GAP
    axes = canvas.line_height(AXIS) + canvas.line_height(LABEL) + 10
    grid_width = len(columns) * (size[0] + GAP // 2) - GAP // 2
    left_axis = max(side, canvas.text_width(below, AXIS) + GAP)
    width = max(2 * MARGIN + left_axis + grid_width, 640)
    titles = canvas.wrapped(title, TITLE, width - 2 * MARGIN, 3)
    notes = canvas.wrapped(note, AXIS, width - 2 * MARGIN, 2) if note else []
    head = len(titles) * canvas.line_height(TITLE) + len(notes) * canvas.line_height(AXIS) + 28
    grid_height = len(rows) * (size[1] + GAP // 2) - GAP // 2
    sheet = Image.new("RGB", (width, 2 * MARGIN + head + axes + grid_height), PAPER)
    draw = ImageDraw.Draw(sheet)

    y = MARGIN
    for line in titles:
        canvas.write(draw, (MARGIN, y), line, TITLE)
        y += canvas.line_height(TITLE)
    for line in notes:
        canvas.write(draw, (MARGIN, y), line, AXIS, ink=QUIET)
        y += canvas.line_height(AXIS)
    left, top = MARGIN + left_axis, MARGIN + head + axes
    canvas.write(draw, (left, MARGIN + head), keys[0], AXIS, ink=QUIET)
    canvas.write(draw, (MARGIN, top - 6 - canvas.line_height(AXIS)), below, AXIS, ink=QUIET)
    for column, value in enumerate(columns):
        x = left + column * (size[0] + GAP // 2) + size[0] // 2
        canvas.write(draw, (x, top - 8 - canvas.line_height(LABEL)), f"{value:g}", LABEL, anchor="ma")
    for row, label in enumerate(labels):
        middle = top + row * (size[1] + GAP // 2) + size[1] // 2
        canvas.write(draw, (left - GAP, middle), label, LABEL, anchor="rm")
    for cell in cells:
        column, row = columns.index(cell.across), rows.index(cell.down)
        at = (left + column * (size[0] + GAP // 2), top + row * (size[1] + GAP // 2))
        sheet.paste(canvas.tile(cell.rendered.image, size), at)
    return sheet
