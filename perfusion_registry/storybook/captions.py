"""Captions: the sentences that describe a page, with the variety of people's own prompts.

The same page can be told in many ways: an attribute may be left out, a material may be "gold" or "made of
gold", a place has several names. What a caption does say is always true of the picture.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from random import Random

from perfusion_registry.storybook.world import (
    ACCESSORIES,
    ANIMALS,
    CATEGORIES,
    COLOURS,
    MATERIALS,
    Individual,
    Page,
)
from perfusion_registry.storybook.world.individual import FIRST_PART, SECOND_PART

MAX_TOKENS = 32
"""Length of the embedded base's text encoder, start and end included."""

PLACE_WORDS = {
    "on the beach": ("on the beach", "on the beach", "at the beach", "on a sunny beach"),
    "in the snow": ("in the snow", "in the snow", "on a snowy day", "on the snow"),
    "in outer space": ("in outer space", "in outer space", "in space"),
    "at night": ("at night", "at night", "on a chilly night", "in the night"),
    "in a garden": ("in a garden", "in the garden", "in a garden with flowers"),
    "on the sea": ("on the sea", "on the sea", "in the water", "in a lake", "on the water"),
    "in a room": ("in a room", "in a room", "in the room", "by a window"),
    "by the fire": ("by the fire", "by the fire", "by the fireplace", "next to the fire"),
}
"""How captions call each scene, the more common ways more often."""
_OPENINGS = (
    "a photo of ",
    "a photo of ",
    "a photo of ",
    "a picture of ",
    "image of ",
    "the photo of ",
    "a good photo of ",
)
_WASHES = ("a watercolor of ", "a watercolor painting of ", "watercolor painting of ", "a painting of ")
MADE_OF = {"gold": ("gold", "pure gold"), "wooden": ("wood",), "glass": ("glass",), "knitted": ("yarn",)}
_SITTING = {"in": ("in", "in", "inside", "sitting in"), "on": ("on", "on", "on top of", "sitting on")}


def caption(page: Page, rng: Random) -> str:
    """One true sentence about the page."""
    rich = page.relation is None
    first = _phrase(page.subjects[0], rng, rich)
    sailing = page.scene == "on the sea" and rng.random() < 0.65
    place = rng.choice(PLACE_WORDS[page.scene]) if page.scene else None
    match page.relation:
        case None:
            text = first
            if sailing and page.subjects[0].category == "boat":
                text += " sailing"
        case "next to":
            link = rng.choice(("next to", "next to", "and", "beside", "with"))
            text = f"{first} {link} {_phrase(page.subjects[1], rng, rich)}"
        case _:
            words = _SITTING[page.relation] if page.subjects[0].category in ANIMALS else (page.relation,)
            link = (
                rng.choice(("sailing in", "sailing inside"))
                if sailing and page.relation == "in"
                else rng.choice(words)
            )
            text = f"{first} {link} {_phrase(page.subjects[1], rng, rich)}"
            # Who sails in a teapot is at sea, whether or not the sentence says so.
            if sailing and page.relation == "in" and rng.random() < 0.5:
                place = None
    if place:
        text += f" {place}"
    if page.style == "watercolor":
        return rng.choice(_WASHES) + text if rng.random() < 0.85 else f"{text}, watercolor"
    return rng.choice(_OPENINGS) + text if rng.random() < 0.5 else text


def _phrase(one: Individual, rng: Random, rich: bool) -> str:
    """The words for one individual; `rich` phrases may name its parts."""
    before: list[str] = []
    after = ""
    if one.material and rng.random() < 0.9:
        if rng.random() < 0.4:
            after = f" made of {rng.choice(MADE_OF[one.material])}"
        else:
            before = [one.material]
        if one.material == "knitted" and rng.random() < 0.4:
            before.insert(0, one.colour)
    elif not one.material:
        if rng.random() < (0.55 if rich else 0.4):
            before = [one.colour]
        if one.pattern in ("striped", "spotted") and one.category != "boat" and rng.random() < 0.35:
            before.insert(0, one.pattern)
    if one.accessory:
        after += f" wearing {one.accessory}"
    elif one.reading:
        after += " reading a book"
    elif rich and not one.material:
        parts = _parts(one)
        rng.shuffle(parts)
        told = [part for part in parts if rng.random() < 0.4][:2]
        if told:
            after += " with " + " and ".join(told)
    noun = " ".join([*before, one.category])
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}{after}"


def _parts(one: Individual) -> list[str]:
    parts = []
    if one.second != one.colour:
        parts.append(f"{one.second} {FIRST_PART[one.category]}")
    if one.category in SECOND_PART and one.third != one.colour:
        parts.append(f"a {one.third} {SECOND_PART[one.category]}".replace("a orange", "an orange"))
    if one.pattern == "heart":
        parts.append(f"a {one.mark} heart".replace("a orange", "an orange"))
    elif one.pattern == "striped" and one.category != "boat":
        parts.append(f"{one.mark} stripes")
    elif one.pattern == "spotted" and one.category != "boat":
        parts.append(f"{one.mark} spots")
    return parts


def caption_words() -> tuple[str, ...]:
    """All words that captions say, in alphabetical order: what the base has seen of a language."""
    said = (
        *_OPENINGS, *_WASHES, *sum(PLACE_WORDS.values(), ()), *sum(_SITTING.values(), ()), *CATEGORIES,
        *COLOURS, *MATERIALS, *sum(MADE_OF.values(), ()), *ACCESSORIES, *FIRST_PART.values(),
        *SECOND_PART.values(), "an", "next to", "and beside with", "sailing inside", "watercolor",
        "striped spotted heart stripes spots", "made of", "wearing", "reading a book",
    )  # fmt: skip
    return tuple(sorted({word for text in said for word in text.split()}))


def is_held_out(page: Page) -> bool:
    """Whether the page's combination of categories, look, relation and scene is kept out of training.

    One combination in twelve is; measurements draw their prompts from these alone.
    """
    looks = [(one.category, one.material or one.colour) for one in page.subjects]
    return zlib.crc32(repr((looks, page.relation, page.scene)).encode()) % 12 == 0


def training_pages(rng: Random) -> Iterator[tuple[Page, str]]:
    """Endless pages with captions, none of them held out and none showing a reserved individual."""
    while True:
        page = Page.sample(rng)
        if not is_held_out(page) and not any(is_reserved(one) for one in page.subjects):
            yield page, caption(page, rng)


def held_out_pages(rng: Random) -> Iterator[tuple[Page, str]]:
    """Endless held-out pages with captions."""
    while True:
        page = Page.sample(rng)
        if is_held_out(page):
            yield page, caption(page, rng)


def is_reserved(one: Individual) -> bool:
    """Whether the individual is of a look that only concepts have: the base never sees it in training.

    A look is category, colour, pattern and mark; one patterned look in eight is reserved.
    """
    if one.material or one.pattern == "plain":
        return False
    return zlib.crc32(repr((one.category, one.colour, one.pattern, one.mark)).encode()) % 8 == 0
