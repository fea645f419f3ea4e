"""Everyday prompts: people's own wordings, written before the base was trained; whether pictures show all
that they ask for, and pages that do."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.resources import files
from random import Random

from perfusion_registry.storybook2.judgement import Portrayed, Seen, shown
from perfusion_registry.storybook2.reading import AskedThing, asked
from perfusion_registry.storybook2.staging import scenery_of, staged
from perfusion_registry.storybook2.world.colours import COLOURS, apart, shaded
from perfusion_registry.storybook2.world.drawing import makes
from perfusion_registry.storybook2.world.individual import Individual, Worn
from perfusion_registry.storybook2.world.page import Page


@cache
def everyday_prompts() -> tuple[str, ...]:
    """The forty, in their order."""
    text = files("perfusion_registry.storybook2").joinpath("everyday.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


def all_shown(seen: Seen, prompt: str) -> list[bool]:
    """Whether each picture shows all that a prompt of at least one thing asks for, as far as the world has
    words for it."""
    question = asked(prompt)
    rows = shown(seen, question, [Portrayed(question.things[0].noun)])
    return [all(row.values()) for row in rows]


def page_for(prompt: str, rng: Random) -> Page:
    """A page of what a prompt asks for: things in the colours, patterns and clothes that it names."""
    question = asked(prompt)
    ones = [_one(thing, rng) for thing in question.things]
    count = question.things[0].count or 1
    if len(ones) == 1 and count > 1:
        page = staged(ones * count, None, scenery_of(question, rng), rng, hand=question.hand or "flat")
        return replace(page, relation=None, counted=True)
    return staged(ones, question.relation, scenery_of(question, rng), rng, hand=question.hand or "flat")


def _one(thing: AskedThing, rng: Random) -> Individual:
    drawing = rng.choice(makes()[thing.noun])
    one = Individual(drawing.name, (("main", thing.colour),) if thing.colour else ())
    if thing.pattern is not None:
        mark = thing.mark or rng.choice([c for c in COLOURS if apart(shaded(c, ""), one.main) > 0.25])
        one = replace(one, pattern=thing.pattern, mark=mark, marks=rng.randrange(2**32))
    if thing.worn:
        one = replace(one, worn=Worn(*thing.worn[0]))
    return one
