"""A page: a description of everything that it shows, and the picture with exact masks that comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from perfusion_registry.storybook2.world.hands import in_hand
from perfusion_registry.storybook2.world.individual import HATS, Individual, Worn
from perfusion_registry.storybook2.world.patterns import pattern_mask
from perfusion_registry.storybook2.world.raster import Rasters, Stack, Variant, dyed, part_mask
from perfusion_registry.storybook2.world.scenery import SIZE, Scenery, background, foreground, weather

Floats = NDArray[np.float32]
MOST_SLOTS = 6
FEET = 0.96
"""Where the feet of a drawing stand, as a share of its height."""
_LOWEST = 0.94  # nothing shows below this height of a vessel that it stands in


@dataclass(frozen=True)
class Placed:
    """An individual on a page.

    x, y: of the corner of its square of px pixels. host: the number of the thing that it stands in or on.
    how: `stand`, `in`, `on`, `riding`, `under`, `holding` (it is held by the host).
    """

    individual: Individual
    x: int
    y: int
    px: int
    mirrored: bool = False
    host: int | None = None
    how: str = "stand"

    def point(self, key: str) -> tuple[float, float, float] | None:
        """A place on it in pixels of the page: (x, y, width), mirrored as it is."""
        point = self.individual.drawing.point(key)
        if point is None:
            return None
        scale = self.px / 100
        x = 100 - point[0] if self.mirrored else point[0]
        return self.x + x * scale, self.y + point[1] * scale, point[2] * scale

    def line(self, key: str) -> tuple[float, float, float] | None:
        """A line on it in pixels of the page: (x1, x2, y), mirrored as it is."""
        line = self.individual.drawing.point(key)
        if line is None:
            return None
        scale, (a, b, y) = self.px / 100, line
        if self.mirrored:
            a, b = 100 - b, 100 - a
        return self.x + a * scale, self.x + b * scale, self.y + y * scale

    @property
    def middle(self) -> float:
        """Its middle, from the left."""
        return self.x + self.px / 2


@dataclass(frozen=True)
class Slot:
    """Something on a page that words can stand for: things (several where they are counted as one), a named
    part of them, or what they wear."""

    things: tuple[int, ...]
    part: str | None = None
    worn: str | None = None


@dataclass(frozen=True)
class Page:
    """Everything that a page shows.

    things: in the order in which a caption names them. relation: of the first to the second, `next to`, `in`,
    `on`, `riding`, `under`, `behind`, `holding`; None where there is one thing, or three. counted: whether
    the things are so many of one look. sizes: what a caption may say of each thing's size. seed: of the hand.
    hidden: (thing, part) of which too little is seen to speak of it.
    """

    scenery: Scenery
    things: tuple[Placed, ...] = ()
    relation: str | None = None
    counted: bool = False
    sizes: tuple[str | None, ...] = ()
    hand: str = "flat"
    seed: int = 0
    hidden: tuple[tuple[int, str], ...] = ()

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """What words can stand for: things first, then what is worn, then parts in a colour of their own."""
        groups = [tuple(range(len(self.things)))] if self.counted else [(k,) for k in range(len(self.things))]
        slots = [Slot(group) for group in groups]
        worn, parts = [], []
        for group in groups:
            one = self.things[group[0]].individual
            if one.worn is not None:
                worn.append(Slot(group, worn=one.worn.word))
            hidden = self.left_out(group[0])
            parts += [
                Slot(group, part=part)
                for part, role in one.drawing.parts.items()
                if role != "main"
                and one.dye(role) is not None
                and part not in hidden
                and not any((k, part) in self.hidden for k in group)
            ]
        return tuple([*slots, *worn, *parts][:MOST_SLOTS])

    def inside(self, thing: int) -> list[int]:
        """The things that stand in this one."""
        rimmed = self.things[thing].individual.drawing.point("rim") is not None
        return [
            j for j, other in enumerate(self.things) if rimmed and other.host == thing and other.how == "in"
        ]

    def left_out(self, thing: int) -> tuple[str, ...]:
        """The groups of a thing's drawing that are not painted: a lid where something stands inside, what it
        wears by itself where it wears another."""
        one = self.things[thing].individual
        groups = ["lid"] if self.inside(thing) else []
        if one.worn is not None:
            groups.append("hat" if one.worn.word in HATS else one.worn.word)
        return tuple(group for group in groups if group in one.drawing.groups)

    def slot_of(self, thing: int) -> int:
        """The number of a thing's slot."""
        return next(k for k, slot in enumerate(self.slots) if thing in slot.things)

    def draw(self, rasters: Rasters | None = None) -> Drawn:
        """The picture. rasters: those made before; by default those of this process."""
        return _Painter(self, rasters or process_rasters()).painted()


@dataclass(frozen=True)
class Seen:
    """What is visible of a thing. mask: (256, 256) uint8 coverage. box: (x1, y1, x2, y2) of it, or None."""

    placed: Placed
    mask: NDArray[np.uint8]

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """The smallest box (x1, y1, x2, y2) round what is visible; None where nothing is."""
        rows, columns = np.flatnonzero((self.mask > 127).any(1)), np.flatnonzero((self.mask > 127).any(0))
        if not len(rows):
            return None
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@dataclass(frozen=True)
class Drawn:
    """A drawn page. image: (256, 256, 3) uint8. things: what is seen of each. masks: (s, 256, 256) uint8 of
    the page's slots."""

    image: NDArray[np.uint8]
    things: tuple[Seen, ...]
    masks: NDArray[np.uint8]

    def slot_masks(self) -> NDArray[np.uint8]:
        """The masks of `MOST_SLOTS` slots (6, 256, 256), zero where a page has fewer."""
        padded = np.zeros((MOST_SLOTS, SIZE, SIZE), np.uint8)
        padded[: len(self.masks)] = self.masks
        return padded


@cache
def process_rasters() -> Rasters:
    """The rasters that all pages of this process share."""
    return Rasters()


class _Painter:
    """Paints one page."""

    def __init__(self, page: Page, rasters: Rasters) -> None:
        self.page = page
        self.rasters = rasters
        self.canvas = background(page.scenery, rasters)
        self.cover = np.zeros((SIZE, SIZE), np.float32)
        # what is visible of each thing, then of each slot that is a part or worn
        self.extra = [(k, slot) for k, slot in enumerate(page.slots) if slot.part or slot.worn]
        self.seen = np.zeros((len(page.things) + len(self.extra), SIZE, SIZE), np.float32)
        self.cast = np.array(page.scenery.cast, np.float32)

    def painted(self) -> Drawn:
        page = self.page
        standing = [k for k, thing in enumerate(page.things) if thing.host is None]
        if page.relation != "behind":
            standing.sort(key=lambda k: page.things[k].y + page.things[k].px)
        for k in standing:
            if not page.scenery.floats:
                self._shadow(page.things[k])
        for k in standing:
            self._thing(k, None)
        if (near := foreground(page.scenery, self.rasters)) is not None:
            paint, alpha = near
            self.canvas = self.canvas * (1 - alpha[..., None]) + paint
            self.seen *= 1 - alpha
            self.cover *= 1 - alpha
        weather(self.canvas, page.scenery)
        canvas = in_hand(page.hand, self.canvas, self.cover, page.seed)
        image = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
        masks = np.rint(np.clip(self.seen, 0, 1) * 255).astype(np.uint8)
        n = len(page.things)
        things = tuple(Seen(thing, mask) for thing, mask in zip(page.things, masks[:n], strict=True))
        slots = np.zeros((len(page.slots), SIZE, SIZE), np.uint8)
        for k, slot in enumerate(page.slots):
            if not (slot.part or slot.worn):
                slots[k] = masks[list(slot.things)].max(0)
        for (k, _), mask in zip(self.extra, masks[n:], strict=True):
            slots[k] = mask
        return Drawn(image, things, slots)

    def _thing(self, k: int, within: Floats | None) -> None:
        """Paint a thing and whatever stands in or on it. within: (256, 256), where it can be seen at all."""
        thing = self.page.things[k]
        worn = thing.individual.worn
        guests = [j for j, other in enumerate(self.page.things) if other.host == k]
        inside, left_out = self.page.inside(k), self.page.left_out(k)
        self._layer(k, Variant("back" if inside else "whole", left_out), within)
        if worn is not None:
            self._worn(k, worn, within)
        for j in inside:
            self._thing(j, _mouth(thing, within))
        if inside:
            self._layer(k, Variant("front", left_out), within)
        for j in guests:
            if j not in inside:
                self._thing(j, within)

    def _layer(self, k: int, variant: Variant, within: Floats | None) -> None:
        thing = self.page.things[k]
        one = thing.individual
        stack = self.rasters.stack(one.drawing, thing.px, variant)
        if stack is None:
            return
        paint = dyed(stack, one.palette())
        if one.pattern is not None:
            h, w = stack.alpha.shape
            marks = pattern_mask(one.pattern, thing.px, one.marks)
            marks = marks[stack.y : stack.y + h, stack.x : stack.x + w, None]
            paint = paint * (1 - marks) + dyed(stack, one.marked_palette()) * marks
        named = {slot.part: at for at, (_, slot) in enumerate(self.extra) if k in slot.things and slot.part}
        roles = one.drawing.parts
        parts = {at: part_mask(stack, part, roles[part]) for part, at in named.items()}
        self._paste(stack, paint, thing.x, thing.y, thing.px, thing.mirrored, k, parts, within)

    def _worn(self, k: int, worn: Worn, within: Floats | None) -> None:
        thing, drawing = self.page.things[k], worn.drawing
        to, base = thing.point(worn.where), drawing.point("base")
        if to is None or base is None:
            return
        px = max(12, round(100 * to[2] / base[2] / 4) * 4)
        stack = self.rasters.stack(drawing, px)
        if stack is None:
            return
        across = 100 - base[0] if thing.mirrored else base[0]
        x, y = round(to[0] - across * px / 100), round(to[1] - base[1] * px / 100)
        at = next((at for at, (_, slot) in enumerate(self.extra) if k in slot.things and slot.worn), None)
        parts = {} if at is None else {at: np.full(stack.alpha.shape, 255, np.uint8)}
        self._paste(stack, dyed(stack, worn.palette()), x, y, px, thing.mirrored, k, parts, within)

    def _paste(
        self,
        stack: Stack,
        paint: Floats,
        x: int,
        y: int,
        px: int,
        mirrored: bool,
        k: int,
        parts: dict[int, NDArray[np.uint8]],
        within: Floats | None,
    ) -> None:
        """Paint colours (h, w, 3) times coverage with the corner of their square at (x, y)."""
        h, w = stack.alpha.shape
        alpha = stack.alpha.astype(np.float32) / 255
        masks = {at: mask.astype(np.float32) / 255 * alpha for at, mask in parts.items()}
        left = x + (px - stack.x - w if mirrored else stack.x)
        top = y + stack.y
        if mirrored:
            paint, alpha = paint[:, ::-1], alpha[:, ::-1]
            masks = {at: mask[:, ::-1] for at, mask in masks.items()}
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + w, SIZE), min(top + h, SIZE)
        if x1 <= x0 or y1 <= y0:
            return
        page, own = (slice(y0, y1), slice(x0, x1)), (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        paint, alpha = paint[own] * self.cast, alpha[own]
        if within is not None:
            paint, alpha = paint * within[page][..., None], alpha * within[page]
        rest = 1 - alpha
        self.canvas[page] = self.canvas[page] * rest[..., None] + paint
        self.cover[page] = self.cover[page] * rest + alpha
        self.seen[(slice(None), *page)] *= rest
        self.seen[(k, *page)] += alpha
        for at, mask in masks.items():
            self.seen[(len(self.page.things) + at, *page)] += np.minimum(mask[own], alpha)

    def _shadow(self, thing: Placed) -> None:
        y, x = np.ogrid[:SIZE, :SIZE]
        across, down = thing.px * 0.36, thing.px * 0.045
        r = ((x - thing.middle) / across) ** 2 + ((y - thing.y - FEET * thing.px) / down) ** 2
        self.canvas *= (1 - 0.14 * np.clip((1 - r) * 3, 0, 1)).astype(np.float32)[..., None]


def _mouth(vessel: Placed, within: Floats | None) -> Floats:
    """Where something that stands in a vessel can be seen: above the rim, and below it within its width."""
    rim = vessel.line("rim")
    assert rim is not None
    x1, x2, y = rim
    mask = np.ones((SIZE, SIZE), np.float32)
    below = max(0, min(SIZE, round(y)))
    mask[below:] = 0
    lowest = max(0, min(SIZE, round(vessel.y + _LOWEST * vessel.px)))
    mask[below:lowest, max(0, round(x1)) : max(0, round(x2))] = 1
    return mask if within is None else mask * within
