"""Drawings: how an individual of each category looks, in shapes.

A drawing lives in a box from -1 to 1 with its foot at y = 1. A container is drawn in two halves, so that a
subject can sit between its back and its body.
"""

from __future__ import annotations

from dataclasses import dataclass

from perfusion_registry.storybook.world.individual import COLOURS, Individual
from perfusion_registry.storybook.world.shape import (
    BANDS,
    GLASS,
    GOLD,
    KNIT,
    RGB,
    SPOTS,
    STRIPES,
    WOOD,
    Fill,
    Shape,
    box,
    darker,
    ellipse,
    flat,
    mix,
)

_INK: RGB = (0.07, 0.06, 0.07)
_PALE: RGB = (1.0, 0.95, 0.85)


@dataclass(frozen=True, slots=True)
class Drawing:
    """An individual's shapes: `back` is behind whatever sits inside it, `body` before it; head: (x, y,
    radius)."""

    back: list[Shape]
    body: list[Shape]
    head: tuple[float, float, float] | None = None


def draw_individual(one: Individual, *, open_lid: bool = False) -> Drawing:
    """The shapes of an individual; a teapot with somebody in it goes without its lid."""
    paint = _main_fill(one)
    main = paint.colour
    other = Fill(one.rgb(one.second)) if one.material is None else paint
    plain = Fill(main) if one.material is None else paint
    third = Fill(one.rgb(one.third)) if one.material is None else paint
    match one.category:
        case "teddy":
            return _teddy(one, paint, plain, other)
        case "cat":
            return _cat(one, paint, plain, other)
        case "dog":
            return _dog(one, paint, plain, other)
        case "teapot":
            return _teapot(one, paint, other, third, open_lid)
        case "pot":
            return _pot(one, paint, other)
        case "boat":
            return _boat(one, paint, other, third)
        case "chair":
            return _chair(one, paint, plain, other)
        case "table":
            return _table(one, paint, other, third)
    raise ValueError(f"no drawing for the category {one.category!r}")


def _main_fill(one: Individual) -> Fill:
    match one.material:
        case "gold":
            return Fill((0.93, 0.72, 0.16), (1.0, 0.95, 0.60), GOLD, 1.6)
        case "wooden":
            return Fill((0.66, 0.43, 0.22), (0.45, 0.27, 0.12), WOOD, 5.0)
        case "glass":
            return Fill((0.75, 0.90, 0.97), (1.0, 1.0, 1.0), GLASS, 1.5, 0.5)
        case "knitted":
            colour = one.rgb(one.colour)
            return Fill(colour, darker(colour, 0.6) if sum(colour) > 0.9 else (0.4, 0.4, 0.42), KNIT)
    if one.pattern == "striped":
        return Fill(one.rgb(one.colour), one.rgb(one.mark), STRIPES, 3.0)
    if one.pattern == "spotted":
        return Fill(one.rgb(one.colour), one.rgb(one.mark), SPOTS, 2.2)
    return Fill(one.rgb(one.colour))


def _emblem(one: Individual, x: float, y: float, size: float) -> list[Shape]:
    if one.pattern == "patch":
        return [ellipse(x, y, size * 0.85, size * 0.85, one.rgb(one.mark), outline=0, shade=0.4)]
    if one.pattern != "heart":
        return []
    k, colour = size * 0.8, one.rgb(one.mark)
    lobes = [
        ellipse(
            x + s * 0.38 * k, y - 0.18 * k, 0.36 * k, 0.62 * k, colour, angle=s * 0.65, shade=0.3, outline=0
        )
        for s in (-1, 1)
    ]
    return [
        *lobes,
        box(x, y + 0.12 * k, 0.3 * k, 0.3 * k, colour, angle=0.785, rounding=0.1, shade=0.3, outline=0),
    ]


def _eyes(x: float, y: float, apart: float, size: float, colour: RGB | None = None) -> list[Shape]:
    shapes = []
    for side in (-1, 1):
        if colour is not None:
            shapes.append(flat(ellipse(x + side * apart, y, size * 1.1, size * 1.15, (0.97, 0.97, 0.97))))
            shapes.append(flat(ellipse(x + side * apart, y + 0.1 * size, size * 0.75, size * 0.85, colour)))
        shapes.append(flat(ellipse(x + side * apart, y + 0.1 * size, size * 0.6, size * 0.7, _INK)))
        shapes.append(
            flat(ellipse(x + side * apart - 0.2 * size, y - 0.2 * size, size * 0.2, size * 0.2, (1, 1, 1)))
        )
    return shapes


def _accessory(one: Individual, head: tuple[float, float, float]) -> list[Shape]:
    x, y, r = head
    if one.accessory == "a wizard hat":
        cloth = Fill((0.33, 0.18, 0.66), (0.98, 0.88, 0.3), SPOTS, 2.2)
        return [
            box(x, y - r * 1.75, r * 0.74, r * 0.95, cloth, taper=1.0, rounding=0.05),
            ellipse(x, y - r * 0.84, r * 1.15, r * 0.21, darker(cloth.colour, 0.8)),
        ]
    if one.accessory == "a crown":
        gold = (0.97, 0.80, 0.18)
        points = [
            box(x + d * r * 0.5, y - r * 1.28, r * 0.21, r * 0.38, gold, taper=1.0, rounding=0.05)
            for d in (-1, 0, 1)
        ]
        gems = [
            flat(ellipse(x + d * r * 0.4, y - r * 0.95, r * 0.1, r * 0.1, (0.85, 0.1, 0.2)))
            for d in (-1, 0, 1)
        ]
        return [*points, box(x, y - r * 0.95, r * 0.74, r * 0.21, gold, rounding=0.2), *gems]
    if one.accessory == "a red scarf":
        red = (0.86, 0.12, 0.12)
        return [
            box(x + r * 0.45, y + r * 1.3, r * 0.2, r * 0.5, red, angle=-0.15, rounding=0.4),
            box(x, y + r * 0.95, r * 0.88, r * 0.23, red, rounding=0.9),
        ]
    if one.accessory == "sunglasses":
        dark = (0.06, 0.06, 0.08)
        lenses = [
            box(x + d * r * 0.44, y - r * 0.08, r * 0.35, r * 0.26, dark, rounding=0.7, shade=2.0)
            for d in (-1, 1)
        ]
        return [box(x, y - r * 0.18, r * 0.88, r * 0.07, dark, rounding=0.4, outline=0), *lenses]
    return []


def _worn(one: Individual, shapes: list[Shape], head: tuple[float, float, float]) -> Drawing:
    shapes = shapes + _accessory(one, head)
    if one.reading:
        x = head[0]
        pages = [
            box(x + s * 0.2, 0.36, 0.21, 0.25, (0.98, 0.96, 0.9), angle=s * 0.12, rounding=0.1)
            for s in (-1, 1)
        ]
        lines = [
            flat(box(x + s * 0.2, 0.26 + 0.1 * k, 0.13, 0.016, (0.45, 0.45, 0.5), angle=s * 0.12, rounding=0))
            for s in (-1, 1) for k in range(3)
        ]  # fmt: skip
        shapes = [*shapes, box(x, 0.38, 0.46, 0.28, (0.75, 0.15, 0.15), rounding=0.15), *pages, *lines]
    return Drawing([], shapes, head)


def _teddy(one: Individual, paint: Fill, plain: Fill, other: Fill) -> Drawing:
    w, h, e = one.width, one.height, one.ear
    shapes: list[Shape] = []
    for s in (-1, 1):
        shapes += [
            ellipse(s * 0.37 * w, -0.68, 0.2 * e, 0.2 * e, other),
            ellipse(s * 0.37 * w, -0.68, 0.11 * e, 0.11 * e, darker(other.colour, 0.72), outline=0),
        ]
    shapes += [ellipse(s * 0.54 * w, 0.30, 0.16, 0.34, plain, angle=-s * 0.6) for s in (-1, 1)]
    shapes.append(ellipse(0, 0.42, 0.5 * w, 0.5, paint))
    if one.pattern == "plain" and one.material is None:
        shapes.append(ellipse(0, 0.47, 0.3 * w, 0.31, mix(plain.colour, _PALE, 0.5), outline=0, shade=0.5))
    shapes += _emblem(one, 0, 0.44, 0.32)
    shapes += [ellipse(s * 0.36 * w, 0.84, 0.22, 0.17, other) for s in (-1, 1)]
    shapes += [
        ellipse(0, -0.32, 0.46 * w, 0.42 * h, plain),
        ellipse(0, -0.18, 0.21, 0.16, mix(plain.colour, _PALE, 0.65), outline=0.4, shade=0.4),
        ellipse(0, -0.25, 0.08, 0.06, _INK, outline=0),
    ]
    shapes += _eyes(0, -0.42, 0.18 * w, 0.07)
    return _worn(one, shapes, (0, -0.36, 0.43))


def _cat(one: Individual, paint: Fill, plain: Fill, other: Fill) -> Drawing:
    w, h, e = one.width, one.height, one.ear
    shapes = [ellipse(0.57, 0.35, 0.11, 0.5, other, angle=0.45), ellipse(0, 0.42, 0.42 * w, 0.58, paint)]
    shapes += _emblem(one, 0, 0.46, 0.29)
    shapes += [ellipse(s * 0.21, 0.9, 0.16, 0.1, plain) for s in (-1, 1)]
    for s in (-1, 1):
        shapes += [
            box(s * 0.29 * w, -0.72, 0.19 * e, 0.28 * e, other, taper=1.0, rounding=0.08, angle=s * 0.2),
            flat(
                box(
                    s * 0.28 * w,
                    -0.67,
                    0.09 * e,
                    0.15 * e,
                    (0.96, 0.62, 0.66),
                    taper=1.0,
                    rounding=0.08,
                    angle=s * 0.2,
                )
            ),
        ]
    shapes.append(ellipse(0, -0.38, 0.45 * w, 0.36 * h, plain))
    shapes += _eyes(0, -0.42, 0.19 * w, 0.09, None if one.eye == "black" else COLOURS[one.eye])
    shapes.append(ellipse(0, -0.26, 0.055, 0.04, (0.95, 0.5, 0.55), outline=0))
    whisker: RGB = (0.98, 0.98, 0.98) if sum(plain.colour) < 1.3 else (0.2, 0.2, 0.2)
    shapes += [
        flat(box(s * 0.37, -0.22 + tilt * 0.35, 0.2, 0.012, whisker, angle=s * tilt, rounding=0))
        for s in (-1, 1) for tilt in (-0.15, 0.15)
    ]  # fmt: skip
    return _worn(one, shapes, (0, -0.42, 0.39))


def _dog(one: Individual, paint: Fill, plain: Fill, other: Fill) -> Drawing:
    w, h, e = one.width, one.height, one.ear
    ear = darker(other.colour, 0.85) if one.second == one.colour else other
    shapes = [box(x + 0.13, 0.72, 0.1, 0.28, darker(plain.colour, 0.8), rounding=0.5) for x in (-0.42, 0.38)]
    shapes += [
        ellipse(0.78, 0.0, 0.08, 0.34, other, angle=0.5),
        box(0.05, 0.32, 0.66 * w, 0.32, paint, rounding=0.95),
    ]
    shapes += _emblem(one, 0.1, 0.3, 0.24)
    shapes += [box(x, 0.72, 0.11, 0.28, plain, rounding=0.5) for x in (-0.42, 0.38)]
    shapes += [
        ellipse(-0.5, -0.24, 0.38, 0.36 * h, plain),
        ellipse(-0.80, -0.10, 0.25, 0.17, mix(plain.colour, _PALE, 0.4)),
        ellipse(-0.98, -0.18, 0.085, 0.07, _INK, outline=0),
        flat(ellipse(-0.62, -0.34, 0.085, 0.095, (0.98, 0.98, 0.98))),
        flat(ellipse(-0.64, -0.33, 0.06, 0.07, _INK)),
        ellipse(-0.22, -0.16, 0.15, 0.33 * e, ear, angle=-0.25),
    ]  # fmt: skip
    return _worn(one, shapes, (-0.5, -0.28, 0.38))


def _teapot(one: Individual, paint: Fill, other: Fill, third: Fill, open_lid: bool) -> Drawing:
    w, h = one.width, one.height
    spout = Fill(paint.colour) if one.material is None else paint
    back = [
        ellipse(0.66 * w, 0.22, 0.28, 0.34, other, hollow=0.08),
        box(-0.74 * w, 0.14, 0.14, 0.44, spout, angle=-0.75, taper=0.45, rounding=0.3),
        ellipse(0, -0.15, 0.36, 0.10, darker(paint.colour, 0.35)),
    ]  # fmt: skip
    body = [ellipse(0, 0.36, 0.64 * w, 0.56 * h, paint), *_emblem(one, 0, 0.38, 0.36)]
    body.append(box(0, 0.93, 0.34, 0.07, other, rounding=0.3))
    if not open_lid:
        body += [ellipse(0, -0.14, 0.4, 0.24, third), ellipse(0, -0.42, 0.11, 0.11, other)]
    return Drawing(back, body)


def _pot(one: Individual, paint: Fill, other: Fill) -> Drawing:
    w = one.width
    back = [ellipse(s * 0.7 * w, 0.25, 0.19, 0.15, other, hollow=0.07) for s in (-1, 1)]
    back.append(ellipse(0, -0.12, 0.58 * w, 0.12, darker(paint.colour, 0.35)))
    body = [box(0, 0.42, 0.62 * w, 0.56, paint, rounding=0.35), *_emblem(one, 0, 0.48, 0.34)]
    return Drawing(back, [*body, box(0, -0.08, 0.68 * w, 0.075, other, rounding=0.8)])


def _boat(one: Individual, paint: Fill, other: Fill, third: Fill) -> Drawing:
    w = one.width
    sail = (
        Fill(third.colour, one.rgb(one.mark), BANDS, 2.5)
        if one.pattern == "striped" and not one.material
        else third
    )
    back = [
        box(0.05, -0.2, 0.04, 0.74, (0.45, 0.30, 0.18), rounding=0.2),
        box(0.38, -0.26, 0.32, 0.58, sail, taper=1.0, rounding=0.03),
        box(-0.24, -0.14, 0.22, 0.45, sail, taper=1.0, rounding=0.03),
    ]
    hull = paint if one.pattern != "striped" else Fill(paint.colour)
    body = [
        ellipse(0, 0.30, 0.92 * w, 0.64, hull, cut=0.12),
        box(0, 0.40, 0.94 * w, 0.075, other, rounding=0.5),
    ]
    return Drawing(back, [*body, *_emblem(one, 0, 0.68, 0.19)])


def _chair(one: Individual, paint: Fill, plain: Fill, other: Fill) -> Drawing:
    w, h = one.width, one.height
    shapes = [box(s * 0.42 * w, 0.2, 0.08, 0.8, other, rounding=0.3) for s in (-1, 1)]
    shapes += [box(0, -0.45, 0.48 * w, 0.44 * h, paint, rounding=0.3), *_emblem(one, 0, -0.45, 0.28)]
    shapes.append(box(0, 0.22, 0.58 * w, 0.13, plain, rounding=0.5))
    shapes += [box(s * 0.5 * w, 0.64, 0.08, 0.36, other, rounding=0.3) for s in (-1, 1)]
    return Drawing([], shapes)


def _table(one: Individual, paint: Fill, other: Fill, third: Fill) -> Drawing:
    w = one.width
    shapes = [box(s * 0.52 * w, 0.55, 0.065, 0.36, darker(other.colour, 0.8), rounding=0.2) for s in (-1, 1)]
    shapes += [box(s * 0.76 * w, 0.6, 0.08, 0.4, other, rounding=0.2) for s in (-1, 1)]
    shapes += [
        box(0, 0.22, 0.86 * w, 0.2, paint, rounding=0.15),
        box(0, 0.0, 0.96 * w, 0.085, paint if one.pattern != "striped" else Fill(paint.colour), rounding=0.5),
        box(0, 0.24, 0.3 * w, 0.11, third, rounding=0.2),
        ellipse(0, 0.24, 0.045, 0.045, (0.95, 0.85, 0.4)),
    ]
    if one.pattern in ("heart", "patch"):
        shapes += _emblem(one, 0.56 * w, 0.24, 0.15) + _emblem(one, -0.56 * w, 0.24, 0.15)
    return Drawing([], shapes)
