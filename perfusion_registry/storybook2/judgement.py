"""What a picture of this world shows, against what its prompt asks for: exact, by the recogniser.

The world is drawn, so there is a truth about every page, and a small network that learned it from drawn pages
alone tells it of any picture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Protocol

import torch
from torch import Tensor

from perfusion_registry.base import Base
from perfusion_registry.storybook2.cast import pictures_of, reference_pages
from perfusion_registry.storybook2.grammar import NOUNS
from perfusion_registry.storybook2.labels import LABELS, NONE
from perfusion_registry.storybook2.reading import Asked, AskedThing
from perfusion_registry.storybook2.recogniser import Look, Recogniser
from perfusion_registry.storybook2.staging import scenery_of, staged
from perfusion_registry.storybook2.world.drawing import makes
from perfusion_registry.storybook2.world.individual import Individual, sample_individual

LOOK_ALIKES = 20
PORTRAITS = 4
"""Pages that each look-alike is known by."""
OWN_LOOK = 0.25
"""The share of an individual's pages on which the recogniser must name a colour, for it to be its own."""
_SIDES = ("left of", "right of")
STANDS: Mapping[str, tuple[str, ...]] = {
    "next to": _SIDES,
    "on": ("on", "riding"),
    "riding": ("riding", "on"),
    "under": ("under", "in"),  # what is under a tent is in it
}
"""What the recogniser may call a relation that was asked for, where that is not its name alone."""


class Seen(Protocol):
    """What pictures show. nouns: as the world calls them. All answers are one for each picture."""

    def __len__(self) -> int:
        """How many pictures."""
        ...

    def present(self, noun: str) -> list[bool]:
        """Whether a thing is there."""
        ...

    def trait(self, noun: str, name: str) -> list[str]:
        """What a thing is like, by a trait of `LABELS`."""
        ...

    def whole(self, name: str) -> list[str]:
        """What the picture is like, by a question of `LABELS`."""
        ...

    def relation(self, first: str, second: str) -> list[str]:
        """How a thing stands to another."""
        ...


class Recognised:
    """What the recogniser sees in pictures (B, 3, h, w) in 0..1: the likeliest answer to each question."""

    def __init__(self, recogniser: Recogniser, images: Tensor) -> None:
        self._recogniser = recogniser
        with torch.no_grad():
            self._look: Look = recogniser.look(images)

    def __len__(self) -> int:
        return len(self._look.features)

    @cached_property
    def _present(self) -> Tensor:
        with torch.no_grad():
            return self._recogniser.present(self._look) > 0

    def present(self, noun: str) -> list[bool]:
        """As its logits say."""
        return [bool(there) for there in self._present[:, NOUNS.index(noun)]]

    @torch.no_grad()
    def trait(self, noun: str, name: str) -> list[str]:
        """The likeliest answer, where the thing would be."""
        return _named(self._recogniser.traits(self._look, self._all(noun))[name], LABELS.traits[name])

    @torch.no_grad()
    def whole(self, name: str) -> list[str]:
        """The likeliest answer."""
        return _named(self._recogniser.wholes(self._look)[name], LABELS.wholes[name])

    @torch.no_grad()
    def relation(self, first: str, second: str) -> list[str]:
        """The likeliest answer."""
        logits = self._recogniser.relations(self._look, self._all(first), self._all(second))
        return _named(logits, LABELS.relations)

    def _all(self, noun: str) -> Tensor:
        return torch.full((len(self),), NOUNS.index(noun))


def _named(logits: Tensor, answers: Sequence[str]) -> list[str]:
    return [answers[int(answer)] for answer in logits.argmax(-1)]


@dataclass(frozen=True)
class Portrayed:
    """Who a picture is of.

    noun: None of a thing that the world does not have. looks: the colours that the recogniser names where the
    individual is drawn by hand (a cup with broad stripes may count as either colour); none for a concept that
    the world does not know.
    """

    noun: str | None
    looks: frozenset[str] = frozenset()


def shown(seen: Seen, asked: Asked, subjects: Sequence[Portrayed]) -> list[dict[str, float]]:
    """What each picture shows of what was asked, 1 or 0 by name; what was not asked for has no entry.

    category: the (first) subject is there. look: it has its own main colour, unless the prompt gives it
    another. scene: place, light and weather. accessory: all that is to be worn. colour: every thing has the
    colours and the pattern that the prompt gives it. style: the hand. second: every other thing is there.
    relation: the two stand so. count: as many as the prompt says. obeyed: all of what was asked beside the
    subject. both: of two subjects, each is there, in its own main colour or in the one that was asked for.
    """
    told: dict[str, list[bool]] = {}
    first = subjects[0].noun
    given = {thing.noun: thing for thing in asked.things}
    if first is not None:
        told["category"] = seen.present(first)
        if subjects[0].looks and (first not in given or given[first].colour is None):
            told["look"] = [colour in subjects[0].looks for colour in seen.trait(first, "main")]
    obeyed = {
        "scene": _scene(seen, asked),
        "accessory": _every([_wears(seen, thing) for thing in asked.things if thing.worn]),
        "colour": _every([rows for thing in asked.things for rows in _coloured(seen, thing)]),
        "style": None if asked.hand is None else [hand == asked.hand for hand in seen.whole("hand")],
        "second": _every([seen.present(noun) for noun in _others(asked, subjects)]),
        "relation": _stands(seen, asked),
        "count": _counted(seen, asked),
    }
    asked_for = {name: rows for name, rows in obeyed.items() if rows is not None}
    told |= asked_for
    if asked_for:
        told["obeyed"] = [all(row) for row in zip(*asked_for.values(), strict=True)]
    if len(subjects) > 1:
        each = [_recognised(seen, subject, given) for subject in subjects]
        told["both"] = [all(row) for row in zip(*each, strict=True)]
    return [{name: float(rows[row]) for name, rows in told.items()} for row in range(len(seen))]


def _every(rows: Sequence[list[bool]]) -> list[bool] | None:
    """Whether all of several things hold, for each picture; None of nothing."""
    return [all(row) for row in zip(*rows, strict=True)] if rows else None


def _scene(seen: Seen, asked: Asked) -> list[bool] | None:
    """A place, its light, its weather. A night alone may be the place of that name, or anywhere's."""
    rows = []
    if asked.place is not None:
        rows.append([place == asked.place for place in seen.whole("place")])
    if asked.light is not None:
        lights = seen.whole("light")
        dark = [asked.light == "night" and place == "night" for place in seen.whole("place")]
        rows.append([light == asked.light or night for light, night in zip(lights, dark, strict=True)])
    if asked.weather is not None:
        rows.append([weather == asked.weather for weather in seen.whole("weather")])
    return _every(rows)


def _wears(seen: Seen, thing: AskedThing) -> list[bool]:
    """All that it is to wear; the recogniser names one, so of two it is one of them."""
    wanted = {word for word, _ in thing.worn}
    return [worn in wanted for worn in seen.trait(thing.noun, "worn")]


def _coloured(seen: Seen, thing: AskedThing) -> list[list[bool]]:
    """Its colour, its pattern, the marks', and that of parts in its second colour."""
    second = {colour for part, colour in thing.parts if _is_second(thing.noun, part)}
    wanted = {"main": thing.colour, "pattern": thing.pattern, "mark": thing.mark}
    if len(second) == 1:
        wanted["second"] = second.pop()
    return [
        [told == answer for told in seen.trait(thing.noun, name)]
        for name, answer in wanted.items()
        if answer is not None
    ]


def _is_second(noun: str, part: str) -> bool:
    """Whether a part has a thing's second colour, whichever its make."""
    roles = {drawing.parts[part] for drawing in makes()[noun] if part in drawing.parts}
    return roles == {"second"}


def _others(asked: Asked, subjects: Sequence[Portrayed]) -> list[str]:
    own = {subject.noun for subject in subjects}
    return [noun for noun in asked.nouns if noun not in own]


def _stands(seen: Seen, asked: Asked) -> list[bool] | None:
    if asked.relation is None or len(asked.things) != 2:
        return None
    first, second = (thing.noun for thing in asked.things)
    allowed = STANDS.get(asked.relation, (asked.relation,))
    there = zip(seen.present(first), seen.present(second), seen.relation(first, second), strict=True)
    return [a and b and relation in allowed for a, b, relation in there]


def _counted(seen: Seen, asked: Asked) -> list[bool] | None:
    """How many there are, where one kind of thing is asked for with a number."""
    counts = [thing.count for thing in asked.things]
    if len(counts) != 1 or counts[0] is None:
        return None
    return [count == str(counts[0]) for count in seen.whole("count")]


def _recognised(seen: Seen, subject: Portrayed, given: Mapping[str, AskedThing]) -> list[bool]:
    if subject.noun is None:
        return [False] * len(seen)
    thing = given.get(subject.noun)
    colours = subject.looks if thing is None or thing.colour is None else frozenset((thing.colour,))
    seen_there = zip(seen.present(subject.noun), seen.trait(subject.noun, "main"), strict=True)
    return [there and (not colours or colour in colours) for there, colour in seen_there]


def own_looks(recogniser: Recogniser, one: Individual) -> frozenset[str]:
    """The colours that the recogniser names on pages which show the individual for certain."""
    seen = Recognised(recogniser, pictures_of(reference_pages(one, 4 * PORTRAITS)))
    named = Counter(seen.trait(one.noun, "main"))
    return frozenset(colour for colour, count in named.items() if count >= OWN_LOOK * len(seen))


def traits(one: Individual) -> tuple[object, ...]:
    """What a picture shows of an individual, in words: its make, its colours, its pattern."""
    colours = [one.colour(role) for role in one.drawing.roles]
    return (one.name, *colours, one.pattern or NONE, one.mark)


def look_alikes(one: Individual) -> list[Individual]:
    """The individual and 19 others of its noun that wear nothing of their own; every other one is of its
    make.

    None is its twin, of the same make, colours and pattern.
    """
    rng = Random(f"look-alikes {one.noun} {one.name}")
    others: list[Individual] = []
    while len(others) < LOOK_ALIKES - 1:
        drawing = one.drawing if len(others) % 2 == 0 else rng.choice(makes()[one.noun])
        other = sample_individual(rng, drawing, natural=0.2, dressed=0.0)
        if traits(other) not in map(traits, (one, *others)):
            others.append(other)
    return [one, *others]


def portraits(
    recogniser: Recogniser,
    base: Base,
    noun: str,
    candidates: Sequence[tuple[Individual, ...]],
    asked: Asked,
    relation: str | None,
) -> Tensor:
    """Features (candidates, portraits, f) of everybody of a noun, drawn by hand in the place, the light and
    the hand that a prompt asks for, as the base's autoencoder gives them back.

    candidates: each alone, or with the company that the prompt asks for, in that relation: what hides or
    blurs the picture's individual does the same to theirs.
    """
    features = []
    for ones in candidates:
        pages = []
        for number in range(PORTRAITS):
            rng = Random(f"portraits {number}")  # everybody stands at the same places
            pages.append(staged(ones, relation, scenery_of(asked, rng), rng, hand=asked.hand or "flat"))
        images = base.reconstructed(pictures_of(pages))
        features.append(recogniser.describe(images, noun))
    return torch.stack(features)


def identified(features: Tensor, portraits: Tensor) -> Tensor:
    """Whether each picture looks most like the first candidate; chance is one in as many as there are.

    features: (B, f) of the pictures. portraits: (c, r, f). Returns (B,) bool.
    """
    return torch.einsum("bf,crf->bcr", features, portraits).mean(-1).argmax(1) == 0
