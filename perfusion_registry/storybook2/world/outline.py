"""What can be seen of things, from their outlines alone: enough to choose pages by without drawing them.

A drawing's outline is its raster on a grid of 50 x 50. With it a page is kept whole (nothing cut off, hats
included), and captions learn which parts and wearables are hidden, so that they do not speak of them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from perfusion_registry.storybook2.world.drawing import drawings
from perfusion_registry.storybook2.world.individual import Individual
from perfusion_registry.storybook2.world.page import Page, Placed
from perfusion_registry.storybook2.world.raster import Variant, part_mask, thing_stack
from perfusion_registry.storybook2.world.scenery import SIZE

GRID = 50
MARGIN = 3
"""Pixels of the page's edge that no thing touches."""
LEAST = 0.4
"""Share of a part or a wearable that is seen where captions may speak of it."""
_SMALLEST = 20.0  # px² of the page that a part covers where captions may speak of it
_Cells = NDArray[np.bool_]
_Points = NDArray[np.float64]
Box = tuple[float, float, float, float]


def box(placed: Placed) -> Box:
    """The box (x1, y1, x2, y2) in pixels of a thing and what it wears, hidden or not."""
    found = _box(_cells(placed.individual.name), placed)
    worn = worn_square(placed)
    if worn is None:
        return found
    other = _box(_cells(worn.individual.name), worn)
    return (
        min(found[0], other[0]),
        min(found[1], other[1]),
        max(found[2], other[2]),
        max(found[3], other[3]),
    )


def worn_square(placed: Placed) -> Placed | None:
    """Where what a thing wears is drawn, as a thing of its own; None where it wears nothing."""
    worn = placed.individual.worn
    if worn is None:
        return None
    to, base = placed.point(worn.where), worn.drawing.point("base")
    if to is None or base is None:
        return None
    px = max(12, round(100 * to[2] / base[2] / 4) * 4)
    across = 100 - base[0] if placed.mirrored else base[0]
    x, y = round(to[0] - across * px / 100), round(to[1] - base[1] * px / 100)
    return Placed(Individual(worn.drawing.name), x, y, px, placed.mirrored)


def whole(page: Page) -> Page | None:
    """The page with all things moved together so that none is cut off; None where they do not fit."""
    if not page.things:
        return page
    boxes = [box(thing) for thing in page.things]
    left, top = min(b[0] for b in boxes), min(b[1] for b in boxes)
    right, bottom = max(b[2] for b in boxes), max(b[3] for b in boxes)
    if right - left > SIZE - 2 * MARGIN or bottom - top > SIZE - 2 * MARGIN:
        return None
    dx, dy = _shift(left, right), _shift(top, bottom)
    if not dx and not dy:
        return page
    return replace(page, things=tuple(replace(t, x=t.x + dx, y=t.y + dy) for t in page.things))


def hidden(page: Page) -> tuple[tuple[int, str], ...]:
    """The dyed parts, and the wearables (by their words), of which too little is seen: (thing, name)."""
    found = []
    for k, thing in enumerate(page.things):
        one = thing.individual
        for part, role in one.drawing.parts.items():
            if role == "main" or one.dye(role) is None:
                continue
            points = _points(_part_cells(one.name, part, page.left_out(k)), thing)
            area = len(points) * (thing.px / GRID) ** 2
            if area < _SMALLEST or share_seen(page, k, points) < LEAST:
                found.append((k, part))
        square = worn_square(thing)
        if square is not None and one.worn is not None:
            points = _points(_cells(square.individual.name), square)
            if share_seen(page, k, points, worn=True) < LEAST:
                found.append((k, one.worn.word))
    return tuple(found)


def share_seen(page: Page, k: int, points: _Points, *, worn: bool = False) -> float:
    """The share of points (n, 2) of a thing that no other thing hides. worn: they are of what it wears."""
    if not len(points):
        return 0.0
    covered = np.zeros(len(points), np.bool_)
    thing = page.things[k]
    if not worn and (square := worn_square(thing)) is not None:
        covered |= _covers(square, points)
    inside = page.inside(k)
    for j in inside:
        rim = thing.line("rim")
        assert rim is not None
        covered |= _with_worn(page.things[j], points) & (points[:, 1] < rim[2])
    for j, other in enumerate(page.things):
        later = other.host == k or (other.host is None and thing.host is None and _after(page, j, k))
        if j != k and later and j not in inside:
            covered |= _with_worn(other, points)
    if thing.host is not None and k in page.inside(thing.host):
        host = page.things[thing.host]
        rim = host.line("rim")
        assert rim is not None
        beside = (points[:, 0] < rim[0]) | (points[:, 0] > rim[1])
        covered |= (points[:, 1] > rim[2]) & beside
        covered |= _covers(host, points, Variant("front", page.left_out(thing.host)))
    return float(1 - covered.mean())


def _after(page: Page, j: int, k: int) -> bool:
    """Whether standing thing j is painted after k."""
    if page.relation == "behind":
        return j > k
    feet_j, feet_k = (page.things[n].y + page.things[n].px for n in (j, k))
    return feet_j > feet_k or (feet_j == feet_k and j > k)


def _shift(low: float, high: float) -> int:
    if low < MARGIN:
        return int(np.ceil(MARGIN - low))
    if high > SIZE - MARGIN:
        return -int(np.ceil(high - SIZE + MARGIN))
    return 0


def _box(cells: _Cells, placed: Placed) -> Box:
    rows, columns = np.flatnonzero(cells.any(1)), np.flatnonzero(cells.any(0))
    x1, x2 = float(columns[0]), float(columns[-1]) + 1
    if placed.mirrored:
        x1, x2 = GRID - x2, GRID - x1
    scale = placed.px / GRID
    return (
        placed.x + x1 * scale,
        placed.y + float(rows[0]) * scale,
        placed.x + x2 * scale,
        placed.y + (float(rows[-1]) + 1) * scale,
    )


def _points(cells: _Cells, placed: Placed) -> _Points:
    """The middles (n, 2) of a drawing's cells, in pixels of the page."""
    rows, columns = np.nonzero(cells)
    across = GRID - 1 - columns if placed.mirrored else columns
    scale = placed.px / GRID
    return np.stack([placed.x + (across + 0.5) * scale, placed.y + (rows + 0.5) * scale], -1)


def _with_worn(placed: Placed, points: _Points) -> _Cells:
    covered = _covers(placed, points)
    square = worn_square(placed)
    return covered if square is None else covered | _covers(square, points)


def _covers(placed: Placed, points: _Points, variant: Variant | None = None) -> _Cells:
    """Which of the points (n, 2) a thing covers."""
    cells = _cells(placed.individual.name, variant)
    scale = placed.px / GRID
    columns = np.floor((points[:, 0] - placed.x) / scale).astype(int)
    rows = np.floor((points[:, 1] - placed.y) / scale).astype(int)
    if placed.mirrored:
        columns = GRID - 1 - columns
    there = (columns >= 0) & (columns < GRID) & (rows >= 0) & (rows < GRID)
    covered = np.zeros(len(points), np.bool_)
    covered[there] = cells[rows[there], columns[there]]
    return covered


@cache
def _cells(name: str, variant: Variant | None = None) -> _Cells:
    """Where a drawing covers its square, (50, 50)."""
    stack = thing_stack(drawings()[name], GRID, variant or Variant())
    cells = np.zeros((GRID, GRID), np.bool_)
    if stack is not None:
        h, w = stack.alpha.shape
        cells[stack.y : stack.y + h, stack.x : stack.x + w] = stack.alpha > 80
    return cells


@cache
def _part_cells(name: str, part: str, left_out: tuple[str, ...]) -> _Cells:
    """Where a part is seen in its drawing, (50, 50)."""
    drawing = drawings()[name]
    stack = thing_stack(drawing, GRID, Variant("whole", left_out))
    cells = np.zeros((GRID, GRID), np.bool_)
    if stack is not None:
        h, w = stack.alpha.shape
        cells[stack.y : stack.y + h, stack.x : stack.x + w] = (
            part_mask(stack, part, drawing.parts[part]) > 100
        )
    return cells
