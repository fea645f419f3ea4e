"""Contact sheets: the pictures of one prompt, with the concepts' reference images beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from perfusion_registry.render import canvas
from perfusion_registry.render.canvas import GAP, INK, MARGIN, PAPER, QUIET, RULE

TILE = 320
THUMB = 112
THUMBS = 4
TITLE, HEADING, CAPTION = 34, 22, 16


@dataclass(frozen=True)
class Reference:
    """A concept on the sheet. name: as called. caption: in small type. images: its own pictures."""

    name: str
    caption: str
    images: Sequence[Image.Image]


@dataclass(frozen=True)
class Tile:
    """A picture on the sheet and what stands below it."""

    image: Image.Image
    caption: str


Box = tuple[int, int, int, int]
"""Where a picture lies on a sheet: left, upper, right, lower, as Pillow crops."""


@dataclass(frozen=True)
class Places:
    """Where the pictures of a sheet lie: those of each reference, as far as they are shown, and the tiles."""

    references: tuple[tuple[Box, ...], ...]
    tiles: tuple[Box, ...]


def contact_sheet(
    title: str, references: Sequence[Reference], tiles: Sequence[Tile], *, note: str = ""
) -> Image.Image:
    """Lay out a sheet: the prompt as its title, references in a column on the left, pictures on the right.

    tiles: at least one; all are scaled to the size of the first, about 320 pixels. note: small type under the
    title. References without images keep their name and caption.
    """
    return laid_out(title, references, tiles, note=note)[0]


def laid_out(
    title: str, references: Sequence[Reference], tiles: Sequence[Tile], *, note: str = ""
) -> tuple[Image.Image, Places]:
    """A sheet as `contact_sheet` lays it out, and where its pictures lie."""
    size = canvas.tile_size(tiles[0].image, TILE)
    columns = _columns(len(tiles))
    rows = math.ceil(len(tiles) / columns)
    column_width = (2 * THUMB + GAP // 2 + 2 * GAP + 1) if references else 0
    caption_height = canvas.line_height(CAPTION) + 6
    grid = (columns * (size[0] + GAP) - GAP, rows * (size[1] + caption_height + GAP) - GAP)
    width = max(2 * MARGIN + column_width + grid[0], 760)
    titles = canvas.wrapped(title, TITLE, width - 2 * MARGIN, 3)
    notes = canvas.wrapped(note, CAPTION, width - 2 * MARGIN, 2) if note else []
    head = len(titles) * canvas.line_height(TITLE) + len(notes) * canvas.line_height(CAPTION) + 28
    column_height = sum(_block_height(reference) for reference in references)
    height = 2 * MARGIN + head + max(grid[1], column_height)

    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    y = MARGIN
    for line in titles:
        canvas.write(draw, (MARGIN, y), line, TITLE)
        y += canvas.line_height(TITLE)
    for line in notes:
        canvas.write(draw, (MARGIN, y), line, CAPTION, ink=QUIET)
        y += canvas.line_height(CAPTION)
    top = MARGIN + head
    known: tuple[tuple[Box, ...], ...] = ()
    if references:
        known = _draw_references(sheet, draw, references, top)
        x = MARGIN + column_width - GAP
        draw.line([(x, top), (x, height - MARGIN)], fill=RULE, width=1)
    places: list[Box] = []
    for index, drawn in enumerate(tiles):
        row, column = divmod(index, columns)
        left = MARGIN + column_width + column * (size[0] + GAP)
        upper = top + row * (size[1] + caption_height + GAP)
        places.append((left, upper, left + size[0], upper + size[1]))
        sheet.paste(canvas.tile(drawn.image, size), places[-1])
        caption = canvas.wrapped(drawn.caption, CAPTION, size[0], 1)[0]
        canvas.write(draw, (left, upper + size[1] + 6), caption, CAPTION, ink=QUIET)
    return sheet, Places(known, tuple(places))


def side_by_side(
    pairs: Sequence[tuple[Image.Image, Image.Image]], names: tuple[str, str], seeds: Sequence[int]
) -> list[Tile]:
    """Two pictures of each seed as one tile, so that a sheet shows them together."""
    tiles = []
    for (left, right), seed in zip(pairs, seeds, strict=True):
        both = Image.new("RGB", (left.width + right.width + left.width // 32, left.height), PAPER)
        both.paste(left, (0, 0))
        both.paste(right, (both.width - right.width, 0))
        tiles.append(Tile(both, f"seed {seed}: {names[0]}, {names[1]}"))
    return tiles


def _columns(count: int) -> int:
    """The number of columns for `count` tiles: a little wider than high, with full rows if possible."""
    if count <= 3:
        return count
    ideal = math.sqrt(count * 1.3)
    return min(range(2, min(count, 8) + 1), key=lambda columns: abs(columns - ideal) + (-count % columns))


def _shown(reference: Reference) -> Sequence[Image.Image]:
    return reference.images[:THUMBS]


def _block_height(reference: Reference) -> int:
    rows = math.ceil(len(_shown(reference)) / 2)
    lines = canvas.line_height(HEADING) + canvas.line_height(CAPTION)
    return lines + 8 + rows * (THUMB + GAP // 2) + GAP


def _draw_references(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, references: Sequence[Reference], top: int
) -> tuple[tuple[Box, ...], ...]:
    """Draw the column of references; returns where their pictures lie."""
    places: list[tuple[Box, ...]] = []
    width = 2 * THUMB + GAP // 2
    y = top
    for reference in references:
        name = canvas.wrapped(reference.name, HEADING, width, 1)[0]
        canvas.write(draw, (MARGIN, y), name, HEADING, ink=INK)
        caption = canvas.wrapped(reference.caption, CAPTION, width, 1)[0]
        canvas.write(draw, (MARGIN, y + canvas.line_height(HEADING)), caption, CAPTION, ink=QUIET)
        images_top = y + canvas.line_height(HEADING) + canvas.line_height(CAPTION) + 8
        boxes: list[Box] = []
        for index, image in enumerate(_shown(reference)):
            row, column = divmod(index, 2)
            left, upper = MARGIN + column * (THUMB + GAP // 2), images_top + row * (THUMB + GAP // 2)
            boxes.append((left, upper, left + THUMB, upper + THUMB))
            sheet.paste(canvas.tile(image, (THUMB, THUMB)), boxes[-1])
        places.append(tuple(boxes))
        y += _block_height(reference)
    return tuple(places)
