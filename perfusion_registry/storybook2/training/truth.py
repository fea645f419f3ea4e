"""The truth about drawn pages, as the recogniser learns it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from perfusion_registry.storybook2.labels import LABELS as LABELS
from perfusion_registry.storybook2.labels import NONE
from perfusion_registry.storybook2.training.recognition import UNTOLD, Truth
from perfusion_registry.storybook2.world.drawing import makes
from perfusion_registry.storybook2.world.hands import HANDS
from perfusion_registry.storybook2.world.individual import Individual
from perfusion_registry.storybook2.world.page import Page

THINGS = 3
"""The most things that a page shows."""


def truth_of(pages: Sequence[Page]) -> Truth:
    """What pages show. Things that a page counts are one thing here, with the first slot's mask."""
    present = torch.zeros(len(pages), len(LABELS.nouns), dtype=torch.bool)
    things = torch.full((len(pages), THINGS), UNTOLD)
    traits = {name: torch.full((len(pages), THINGS), UNTOLD) for name in LABELS.traits}
    wholes = {name: torch.full((len(pages),), UNTOLD) for name in LABELS.wholes}
    relation = torch.full((len(pages),), UNTOLD)
    for row, page in enumerate(pages):
        shown = page.things[:1] if page.counted else page.things
        for column, thing in enumerate(shown):
            noun = LABELS.nouns.index(thing.individual.noun)
            present[row, noun] = True
            things[row, column] = noun
            for name, answer in _traits(thing.individual).items():
                if answer is not None:
                    traits[name][row, column] = LABELS.traits[name].index(answer)
        scenery = page.scenery
        told = {
            "place": scenery.place or NONE,
            "light": scenery.light,
            "weather": scenery.weather or NONE,
            "hand": page.hand if page.hand in HANDS else None,
            "count": str(len(page.things)),
        }
        for name, answer in told.items():
            if answer is not None:
                wholes[name][row] = LABELS.wholes[name].index(answer)
        if (answer := _relation(page)) is not None:
            relation[row] = LABELS.relations.index(answer)
    return Truth(present, things, traits, wholes, relation)


def _traits(one: Individual) -> dict[str, str | None]:
    drawings = makes()[one.noun]
    return {
        "make": LABELS.traits["make"][drawings.index(one.drawing)],
        "main": one.colour("main"),
        "second": one.colour("second"),
        "pattern": one.pattern or NONE,
        "mark": one.mark,
        "worn": one.worn.word if one.worn else NONE,
    }


def _relation(page: Page) -> str | None:
    """How the first of two things stands to the second; `next to` is told as left or right."""
    if page.relation != "next to":
        return page.relation
    return "left of" if page.things[0].middle < page.things[1].middle else "right of"
