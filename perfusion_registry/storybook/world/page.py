"""Pages: one or two individuals in a scene, in a relation and a style, and where each of them stands."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from perfusion_registry.storybook.world.drawing import draw_individual
from perfusion_registry.storybook.world.individual import (
    ANIMALS,
    CATEGORIES,
    CONTAINERS,
    SUPPORTS,
    Individual,
)
from perfusion_registry.storybook.world.scenery import SCENES, Scenery
from perfusion_registry.storybook.world.shape import Backdrop, Shape, placed

_RIM = {"teapot": -0.15, "pot": -0.12, "boat": 0.36}
_SEAT = {"chair": 0.14, "table": -0.06}


@dataclass(frozen=True, slots=True)
class Page:
    """What a picture shows.

    subjects: one individual, or two in a relation `in`, `on` or `next to` (the first is in, on or next to the
    second). scene: one of `SCENES` or None. style: `watercolor` or None. seed: fixes placement and scenery.
    """

    subjects: tuple[Individual, ...]
    relation: str | None
    scene: str | None
    style: str | None
    seed: int

    @classmethod
    def sample(cls, rng: Random) -> Page:
        """A random page; its categories and relations are balanced for what the embedded base has to
        learn."""
        scene = None if rng.random() < 0.17 else rng.choices(SCENES, (1, 1, 1, 1, 1, 1.5, 1, 1))[0]
        style = "watercolor" if rng.random() < 0.07 else None
        relation = rng.choices((None, "next to", "in", "on"), (0.52, 0.17, 0.23, 0.08))[0]
        match relation:
            case "next to":
                pair = rng.sample(CATEGORIES, 2)
            case "in":
                pair = [
                    rng.choices(ANIMALS, (0.46, 0.3, 0.24))[0],
                    rng.choices(CONTAINERS, (0.44, 0.3, 0.26))[0],
                ]
            case "on":
                pair = [rng.choice((*ANIMALS, "teapot", "pot")), rng.choice(SUPPORTS)]
            case _:
                pair = [rng.choices(CATEGORIES, (0.2, 0.14, 0.12, 0.17, 0.1, 0.09, 0.09, 0.09))[0]]
        return cls(
            tuple(Individual.sample(rng, c) for c in pair), relation, scene, style, rng.getrandbits(32)
        )


def draw_page(page: Page) -> tuple[Backdrop, list[Shape]]:
    """The backdrop and all shapes of a page, back to front; the subjects' shapes carry their owner, 1 and 2.

    Everything faces one way, and who stands next to another stands on its left: a small network that has to
    draw either way draws dogs with two heads and teapots with two spouts.
    """
    rng = Random(page.seed)
    scenery = Scenery(rng, page.scene)
    base = rng.uniform(0.78, 0.93)
    if page.scene == "on the sea":
        base = rng.uniform(0.9, 0.98)
    elif page.scene == "in outer space":
        base = rng.uniform(0.6, 0.85)
    first = page.subjects[0]
    match page.relation:
        case None:
            tall = first.accessory in ("a wizard hat", "a crown")
            scale = rng.uniform(0.76, 0.9) * (0.86 if tall else 1.0)
            shapes = _standing(first, rng.uniform(-0.12, 0.12), base, scale, 1)
        case "next to":
            apart = rng.uniform(0.44, 0.5)
            shapes = _standing(
                page.subjects[1], apart, base - rng.uniform(0, 0.08), rng.uniform(0.48, 0.54), 2
            )
            shapes += _standing(first, -apart, base, rng.uniform(0.48, 0.54), 1)
        case "in":
            shapes = _inside(first, page.subjects[1], rng.uniform(-0.1, 0.1), base, rng.uniform(0.68, 0.76))
        case "on":
            x, scale = rng.uniform(-0.15, 0.15), rng.uniform(0.6, 0.68)
            seat = base - scale + _SEAT[page.subjects[1].category] * scale
            shapes = _standing(page.subjects[1], x, base, scale, 2)
            shapes += _standing(first, x, seat, scale * 0.6, 1)
        case _:
            raise ValueError(f"no such relation: {page.relation!r}")
    return scenery.backdrop, [*scenery.behind, *shapes, *scenery.before]


def _standing(one: Individual, x: float, foot: float, scale: float, owner: int) -> list[Shape]:
    drawing = draw_individual(one)
    return placed([*drawing.back, *drawing.body], x, foot - scale, scale, owner)


def _inside(one: Individual, vessel: Individual, x: float, foot: float, scale: float) -> list[Shape]:
    drawing, y = draw_individual(vessel, open_lid=True), foot - scale
    small = (0.64 if one.accessory in ("a wizard hat", "a crown") else 0.72) * scale
    shift = -0.12 * scale if vessel.category == "boat" else 0.0
    sitting = y + _RIM[vessel.category] * scale + small * 0.5
    return [
        *placed(drawing.back, x, y, scale, 2),
        *_standing(one, x + shift, sitting, small, 1),
        *placed(drawing.body, x, y, scale, 2),
    ]
