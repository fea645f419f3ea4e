"""Shapes: the ellipses and rounded boxes that every drawing is made of.

A picture is a list of shapes painted in order. Coordinates are those of the frame: x and y in -1..1, y down.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

RGB = tuple[float, float, float]

ELLIPSE, BOX = 0, 1
PLAIN, STRIPES, BANDS, SPOTS, WOOD, KNIT, GOLD, GLASS = range(8)
"""Fills. Stripes run down, bands run across."""


@dataclass(frozen=True, slots=True)
class Fill:
    """How a surface is coloured: a colour, or a pattern of two."""

    colour: RGB
    second: RGB | None = None
    pattern: int = PLAIN
    frequency: float = 3.0
    alpha: float = 1.0


@dataclass(frozen=True, slots=True)
class Shape:
    """One ellipse or rounded box.

    x, y: centre. hx, hy: half sizes. angle: radians. rounding: corner radius as a share of the smaller
    half size. taper: how much narrower the top of a box is (1: a point). hollow: half thickness of a ring
    (0: filled). cut: everything above `cut * hy` (in the shape's own frame) is removed. shade: strength of
    the soft light from the upper left. outline: strength of the dark edge. owner: 0 for scenery, 1 or 2
    for the subjects.
    """

    kind: int
    x: float
    y: float
    hx: float
    hy: float
    fill: Fill
    angle: float = 0.0
    rounding: float = 0.25
    taper: float = 0.0
    hollow: float = 0.0
    cut: float = -9.0
    shade: float = 1.0
    outline: float = 1.0
    owner: int = 0

    def row(self) -> list[float]:
        """The shape as the numbers that the painter reads, in the order of `COLUMNS`."""
        f = self.fill
        return [
            self.kind, self.x, self.y, self.hx, self.hy, self.angle, self.rounding, self.taper, self.hollow,
            self.cut, self.shade, self.outline, self.owner, *f.colour, *(f.second or f.colour), f.pattern,
            f.frequency, f.alpha,
        ]  # fmt: skip


COLUMNS = (
    "kind", "x", "y", "hx", "hy", "angle", "rounding", "taper", "hollow", "cut", "shade", "outline", "owner",
    "r", "g", "b", "r2", "g2", "b2", "pattern", "frequency", "alpha",
)  # fmt: skip


def as_fill(fill: Fill | RGB) -> Fill:
    """A bare colour is a plain fill."""
    return fill if isinstance(fill, Fill) else Fill(fill)


def ellipse(x: float, y: float, hx: float, hy: float, fill: Fill | RGB, **more: float) -> Shape:
    """An ellipse around (x, y)."""
    return Shape(ELLIPSE, x, y, hx, hy, as_fill(fill), **more)  # type: ignore[arg-type]


def box(x: float, y: float, hx: float, hy: float, fill: Fill | RGB, **more: float) -> Shape:
    """A rounded, possibly tapered box around (x, y)."""
    return Shape(BOX, x, y, hx, hy, as_fill(fill), **more)  # type: ignore[arg-type]


def flat(shape: Shape) -> Shape:
    """The shape without light and without an outline."""
    return replace(shape, shade=0.0, outline=0.0)


def darker(colour: RGB, factor: float) -> RGB:
    """The colour times `factor`."""
    return (min(1.0, colour[0] * factor), min(1.0, colour[1] * factor), min(1.0, colour[2] * factor))


def mix(a: RGB, b: RGB, t: float) -> RGB:
    """`a` for t = 0, `b` for t = 1."""
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def placed(shapes: Iterable[Shape], x: float, y: float, scale: float, owner: int) -> list[Shape]:
    """The shapes of a drawing moved to (x, y), scaled, and owned by a subject."""
    return [
        replace(
            s, x=x + s.x * scale, y=y + s.y * scale, hx=s.hx * scale, hy=s.hy * scale,
            hollow=s.hollow * scale, owner=owner,
        )
        for s in shapes
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Backdrop:
    """The sky and ground gradients that a picture begins with."""

    sky: tuple[RGB, RGB]
    horizon: float
    ground: tuple[RGB, RGB] = field(default=((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)))

    def row(self) -> list[float]:
        """Thirteen numbers: sky top, sky bottom, horizon, ground top, ground bottom."""
        return [*self.sky[0], *self.sky[1], self.horizon, *self.ground[0], *self.ground[1]]
