"""Where things stand on a page: sizes, feet, rims, seats, backs and hands."""

from __future__ import annotations

from random import Random

from perfusion_registry.storybook2.world.individual import Individual
from perfusion_registry.storybook2.world.page import FEET, Placed
from perfusion_registry.storybook2.world.scenery import SIZE, Scenery

SIZES = (40, 48, 56, 64, 72, 80, 92, 104, 116, 128, 144, 160, 176, 192, 208, 220)
"""Pixels that things are drawn at: few, so that rasters can be used again."""
SMALLEST = 48
_MARGIN = 3
_BY_FOOT = frozenset(("balloon", "tulip", "sunflower", "kite", "umbrella"))


def step(px: float) -> int:
    """The size of `SIZES` next to px."""
    return min(SIZES, key=lambda size: abs(size - px))


def size_word(rng: Random) -> tuple[str | None, float]:
    """What a caption may say of a size, and what it multiplies; nothing in most cases."""
    chance = rng.random()
    if chance < 0.06:
        return "small", 0.6
    if chance < 0.12:
        return "big", 1.32
    return None, rng.uniform(0.92, 1.1)


def standing(
    rng: Random, one: Individual, scenery: Scenery, middle: float, px: int, *, feet: float | None = None
) -> Placed:
    """A thing on the ground, or hanging freely where things do. middle: as a share of the page's width."""
    low, high = scenery.stand
    at = rng.uniform(low, high) if feet is None else feet
    if scenery.floats:
        at -= rng.uniform(0, 0.3) * SIZE
    at = min(max(at, FEET * px + _MARGIN), SIZE - _MARGIN)
    x = min(max(SIZE * middle - px / 2, -0.02 * px), SIZE - 0.98 * px)
    mirrored = one.drawing.data.get("mirror") != "no" and rng.random() < 0.5
    return Placed(one, round(x), round(at - FEET * px), px, mirrored)


def seated(guest: Individual, host: Placed, number: int, px: int, how: str, rng: Random) -> Placed | None:
    """A thing in, on, under, riding or held by another, which is thing `number`; None where it does not fit.

    px: its size. how: as `Placed` has it.
    """
    mirrored = guest.drawing.data.get("mirror") != "no" and rng.random() < 0.5
    if how == "holding":
        hand = host.point("hand")
        if hand is None:
            return None
        y = hand[1] - (0.9 if guest.noun in _BY_FOOT else 0.55) * px
        return _within(Placed(guest, round(hand[0] - px / 2), round(y), px, mirrored, number, how))
    line = host.line({"in": "rim", "on": "seat", "riding": "back", "under": "under"}[how])
    if line is None:
        return None
    x1, x2, y = line
    middle = (x1 + x2) / 2 + rng.uniform(-0.5, 0.5) * max(0.0, (x2 - x1) - px)
    feet = {"in": y + 0.34 * px, "on": y + 0.03 * px, "riding": y + 0.12 * px}.get(how)
    if feet is None:
        feet = host.y + FEET * host.px
    return _within(Placed(guest, round(middle - px / 2), round(feet - FEET * px), px, mirrored, number, how))


def _within(placed: Placed) -> Placed | None:
    """It, if the page shows all of it."""
    edge = -0.03 * placed.px
    inside = placed.x >= edge and placed.y >= edge and placed.x + placed.px <= SIZE - edge
    return placed if inside else None


def guest_size(host: Placed, how: str, guest: Individual) -> int | None:
    """How large a guest is in, on, under or riding a host, or None where there is no room to see it."""
    if how == "holding":
        px = 0.42 * host.px
    else:
        line = host.line({"in": "rim", "on": "seat", "riding": "back", "under": "under"}[how])
        if line is None:
            return None
        width = line[1] - line[0]
        if how == "in":
            px = min(width * 1.28, host.px * 1.02)
        elif how == "on":
            px = min(width * 1.15, host.px * 0.72)
        elif how == "riding":
            px = min(width * 1.5, host.px * 0.58)
        else:
            px = min(width, host.y + FEET * host.px - line[2])
    below = [size for size in SIZES if size <= px * 1.04 and size >= SMALLEST]
    return below[-1] if below else None
