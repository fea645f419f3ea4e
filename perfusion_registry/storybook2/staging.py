"""Pages to order: given individuals, in the place, the relation and the hand that a prompt asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from perfusion_registry.storybook2.reading import Asked
from perfusion_registry.storybook2.world.drawing import places
from perfusion_registry.storybook2.world.individual import Individual
from perfusion_registry.storybook2.world.layout import guest_size, seated, standing, step
from perfusion_registry.storybook2.world.outline import whole
from perfusion_registry.storybook2.world.page import Page, Placed
from perfusion_registry.storybook2.world.scenery import SIZE, Scenery

ALONE = 1.4
"""What a drawing's own height is multiplied by where it stands alone, as pages of the grammar have it."""
GROUNDS = ((240, 232, 216), (222, 232, 240), (228, 238, 222), (236, 226, 236))
"""Calm colours of plain grounds, before which everything can be seen."""
_HOST = 1.25
_TRIES = 40


def scenery_of(asked: Asked, rng: Random) -> Scenery:
    """Where a prompt wants its things, in the light and the weather that it asks for; on a plain ground where
    it names no place."""
    place = asked.place
    if place is None and asked.light == "night":
        place = "night"
    if not place:
        ground = rng.choice(GROUNDS)
        return Scenery(colour=ground, horizon=rng.randint(150, 190), weather=asked.weather)
    light = "day" if asked.light is None or place == "night" else asked.light
    unseen = {"sun"} if light == "night" or asked.weather else set()
    left_out = tuple(prop for prop in places()[place].props if prop in unseen)
    window = rng.randint(0, SIZE * 7 // 5 - SIZE)
    return Scenery(
        place, window, rng.random() < 0.5, left_out, light, asked.weather, seed=rng.randrange(2**32)
    )


def staged(
    ones: Sequence[Individual], relation: str | None, scenery: Scenery, rng: Random, *, hand: str = "flat"
) -> Page:
    """A page of one individual, or of several.

    relation: of the first of two to the second, as prompts have it (`reading.RELATIONS`). What cannot stand
    so, such as somebody in a thing without a rim, stands next to it.
    """
    for _ in range(_TRIES):
        page = _placed(ones, relation, scenery, rng)
        kept = None if page is None else whole(page)
        if kept is not None:
            return replace(kept, hand=hand, seed=rng.randrange(2**32), sizes=(None,) * len(ones))
    if relation not in (None, "next to"):
        return staged(ones, "next to", scenery, rng, hand=hand)
    raise ValueError(f"{len(ones)} things have no room on a page")


def _placed(ones: Sequence[Individual], relation: str | None, scenery: Scenery, rng: Random) -> Page | None:
    if len(ones) == 1:
        px = step(min(max(SIZE * ones[0].drawing.height * ALONE * rng.uniform(0.92, 1.1), 64), 220))
        return Page(scenery, (standing(rng, ones[0], scenery, rng.uniform(0.4, 0.6), px),))
    if len(ones) > 2 or relation in (None, "next to", "left of", "right of"):
        return _row(ones, relation, scenery, rng)
    if relation == "behind":
        return _behind(ones, scenery, rng)
    return _hosted(ones, str(relation), scenery, rng)


def _row(ones: Sequence[Individual], relation: str | None, scenery: Scenery, rng: Random) -> Page:
    """Things beside each other, about as large as each is beside the other."""
    middles = [(k + 0.5) / len(ones) for k in range(len(ones))]
    if relation == "right of" or (relation != "left of" and rng.random() < 0.5):
        middles.reverse()
    scale, least, most = (1.12, 72, 120) if len(ones) == 2 else (0.8, 64, 80)
    low, high = scenery.stand
    feet = rng.uniform(low, high)
    things = []
    for one, middle in zip(ones, middles, strict=True):
        px = step(min(max(SIZE * one.drawing.height * scale, least), most))
        things.append(standing(rng, one, scenery, middle, px, feet=feet + rng.uniform(-5, 5)))
    return Page(scenery, tuple(things), "next to" if len(ones) == 2 else None)


def _behind(ones: Sequence[Individual], scenery: Scenery, rng: Random) -> Page:
    px = step(min(max(SIZE * ones[1].drawing.height * 0.95, 72), 104))
    side, middle = rng.choice((-1, 1)), rng.uniform(0.42, 0.58)
    feet = sum(scenery.stand) / 2 + rng.uniform(0, 8)
    front = standing(rng, ones[1], scenery, middle + side * 0.16, px, feet=feet + 10)
    larger = step(min(px * 1.5, 160))
    back = standing(rng, ones[0], scenery, middle - side * 0.1, larger, feet=feet - 10)
    return Page(scenery, (back, front), "behind")


def _hosted(ones: Sequence[Individual], how: str, scenery: Scenery, rng: Random) -> Page | None:
    """One in, on, under, riding or held by another; None where that has no place for it."""
    guest, host = ones if how != "holding" else ones[::-1]
    if how == "on" and host.drawing.point("seat") is None:
        how = "riding"  # on a horse's back
    larger = {"under": 1.5, "riding": 1.15}.get(how, _HOST)
    px = step(min(max(SIZE * host.drawing.height * larger, 144), 192))
    low, high = scenery.stand
    feet = max(rng.uniform(low, high), 0.84 * SIZE)
    base = standing(rng, host, scenery, rng.uniform(0.42, 0.58), px, feet=feet)
    size = guest_size(base, how, guest)
    placed = None if size is None else seated(guest, base, 0 if how == "holding" else 1, size, how, rng)
    if placed is None:
        return None
    things: tuple[Placed, Placed] = (base, placed) if how == "holding" else (placed, base)
    return Page(scenery, things, how)
