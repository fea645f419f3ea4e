"""Sweeps: one prompt and seed over a grid of gate biases and temperatures (the paper's Figure 7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from perfusion_registry.compose.composition import Composition
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
class Cell:
    """One picture of a sweep and the gate it was drawn with."""

    bias: float
    temperature: float
    rendered: Rendered


def gated(composition: Composition, names: Sequence[str], bias: float, temperature: float) -> Composition:
    """Return the composition with the gates of the concepts `names` set to `bias` and `temperature`."""
    return composition.model_copy(
        update={
            "concepts": tuple(
                concept.with_options(bias=bias, temperature=temperature)
                if concept.name in names and concept.gate
                else concept
                for concept in composition.concepts
            )
        }
    )


def sweep(
    base: Base,
    composition: Composition,
    request: RenderRequest,
    artifacts: Mapping[str, Artifact],
    biases: Sequence[float],
    temperatures: Sequence[float],
    *,
    names: Sequence[str] | None = None,
    reporter: Reporter | None = None,
) -> Iterator[Cell]:
    """Draw the request's first seed with every bias under every temperature, row by row.

    names: the concepts whose gates vary; by default all. Yields len(biases) * len(temperatures) cells.
    """
    from perfusion_registry.render.draw import render

    swept = names if names is not None else [concept.name for concept in composition.concepts]
    one = request.model_copy(update={"seeds": request.seeds[:1], "batch": 1})
    total = len(biases) * len(temperatures)
    with (reporter or Silent()).stage(f"Sweeping {total} gates", total=total) as stage:
        for temperature in temperatures:
            for bias in biases:
                (rendered,) = render(base, gated(composition, swept, bias, temperature), one, artifacts)
                stage.advance(note=f"bias {bias:g}, temperature {temperature:g}")
                yield Cell(bias, temperature, rendered)


def sweep_sheet(title: str, cells: Sequence[Cell], *, note: str = "") -> Image.Image:
    """Lay out a sweep as a table: biases from left to right, temperatures from top to bottom, both labelled.

    cells: at least one. A bias and temperature that were not drawn leave their place empty.
    """
    biases = sorted({cell.bias for cell in cells})
    temperatures = sorted({cell.temperature for cell in cells})
    size = canvas.tile_size(cells[0].rendered.image, TILE)
    side = max(canvas.text_width(f"{t:g}", LABEL) for t in temperatures) + GAP
    axes = canvas.line_height(AXIS) + canvas.line_height(LABEL) + 10
    grid_width = len(biases) * (size[0] + GAP // 2) - GAP // 2
    left_axis = max(side, canvas.text_width("temperature", AXIS) + GAP)
    width = max(2 * MARGIN + left_axis + grid_width, 640)
    titles = canvas.wrapped(title, TITLE, width - 2 * MARGIN, 3)
    notes = canvas.wrapped(note, AXIS, width - 2 * MARGIN, 2) if note else []
    head = len(titles) * canvas.line_height(TITLE) + len(notes) * canvas.line_height(AXIS) + 28
    grid_height = len(temperatures) * (size[1] + GAP // 2) - GAP // 2
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
    canvas.write(draw, (left, MARGIN + head), "bias", AXIS, ink=QUIET)
    canvas.write(draw, (MARGIN, top - 6 - canvas.line_height(AXIS)), "temperature", AXIS, ink=QUIET)
    for column, bias in enumerate(biases):
        x = left + column * (size[0] + GAP // 2) + size[0] // 2
        canvas.write(draw, (x, top - 8 - canvas.line_height(LABEL)), f"{bias:g}", LABEL, anchor="ma")
    for row, temperature in enumerate(temperatures):
        middle = top + row * (size[1] + GAP // 2) + size[1] // 2
        canvas.write(draw, (left - GAP, middle), f"{temperature:g}", LABEL, anchor="rm")
    for cell in cells:
        column, row = biases.index(cell.bias), temperatures.index(cell.temperature)
        at = (left + column * (size[0] + GAP // 2), top + row * (size[1] + GAP // 2))
        sheet.paste(canvas.tile(cell.rendered.image, size), at)
    return sheet
