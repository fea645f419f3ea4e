"""Captions of pages, as people write them: true of what is seen, and with the place of every word that stands
for something on the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from perfusion_registry.storybook2.words import (
    HAND_ENDINGS,
    HAND_OPENINGS,
    LIGHT_WORDS,
    LIVELESS_RELATIONS,
    NUMBERS,
    PATTERN_ADJECTIVES,
    PATTERN_NOUNS,
    RELATION_WORDS,
    SAILING,
    SIZE_WORDS,
    WEATHER_WORDS,
    part_lead,
    plural,
    with_article,
)
from perfusion_registry.storybook2.world.page import Page

Kind = Literal["noun", "attribute", "part"]


@dataclass(frozen=True)
class Mention:
    """Characters start to end of a caption, which stand for a slot of the page.

    kind: `noun` for the thing itself, `part` for a part of it or something worn, `attribute` for a word about
    one of these.
    """

    start: int
    end: int
    slot: int
    kind: Kind


@dataclass(frozen=True)
class Caption:
    """A caption and what its words stand for."""

    text: str
    mentions: tuple[Mention, ...] = ()


@dataclass(frozen=True)
class _Piece:
    """Words, and what they stand for."""

    text: str
    slot: int | None = None
    kind: Kind = "noun"


@dataclass
class _Line:
    """A caption in the making."""

    pieces: list[_Piece] = field(default_factory=list)

    def add(self, text: str, slot: int | None = None, kind: Kind = "noun") -> None:
        self.pieces.append(_Piece(text, slot, kind))

    def caption(self) -> Caption:
        text, mentions = "", []
        for piece in self.pieces:
            if not piece.text:
                continue
            if text and not piece.text.startswith((",", ".")):
                text += " "
            if piece.slot is not None:
                mentions.append(Mention(len(text), len(text) + len(piece.text), piece.slot, piece.kind))
            text += piece.text
        return Caption(text, tuple(mentions))


def caption(page: Page, rng: Random) -> Caption:
    """A caption by chance. It never claims what the page does not show; it need not tell everything."""
    short = rng.random() < 0.1
    opening = rng.choice(HAND_OPENINGS[page.hand])
    setting = "" if short else _setting(page, rng)
    said = _subject(page, rng, short)
    if said is None:
        return _cased(Caption(opening + _place_alone(page, rng)), rng)
    subject, sails = said
    endings = list(HAND_ENDINGS.get(page.hand, ()))
    ending = rng.choice(endings) if endings else ""
    if sails and rng.random() < 0.4:
        setting = ""
    line = _Line()
    first = setting and not opening and rng.random() < 0.16
    if first:
        line.add(setting + ",")
    line.add(opening.strip())
    line.pieces += subject
    if setting and not first:
        line.add(setting)
    line.add(ending)
    made = line.caption()
    if rng.random() < 0.1:
        made = Caption(made.text + ".", made.mentions)
    return _cased(made, rng)


def _cased(made: Caption, rng: Random) -> Caption:
    chance = rng.random()
    if chance < 0.18:
        return Caption(made.text[:1].upper() + made.text[1:], made.mentions)
    if chance < 0.2:
        return Caption(made.text.upper(), made.mentions)
    return made


def _setting(page: Page, rng: Random) -> str:
    """Where, in which light and weather."""
    scenery, said = page.scenery, []
    drawing = scenery.drawing
    if drawing is not None and rng.random() < 0.93:
        said.append(rng.choice((drawing.words[0], *drawing.words)))
    if drawing is None and scenery.backdrop is not None and rng.random() < 0.6:
        ground = rng.choice(("background", "background", "wall"))
        said.append(f"{rng.choice(('on', 'against'))} {with_article(f'{scenery.backdrop} {ground}')}")
    for words in (LIGHT_WORDS.get(scenery.light), WEATHER_WORDS.get(scenery.weather or "")):
        if words is not None and rng.random() < 0.9:
            said.append(rng.choice(words))
    return " ".join(said)


def _place_alone(page: Page, rng: Random) -> str:
    """An empty place: `the beach`."""
    drawing = page.scenery.drawing
    assert drawing is not None
    _, _, where = rng.choice(drawing.words).partition(" ")
    for start in ("top of ", "the bottom of "):
        where = where.removeprefix(start)
    where = f"an empty {where.removeprefix('a ').removeprefix('the ')}" if rng.random() < 0.15 else where
    lights = [rng.choice(LIGHT_WORDS[page.scenery.light])] if page.scenery.light in LIGHT_WORDS else []
    weathers = [rng.choice(WEATHER_WORDS[page.scenery.weather])] if page.scenery.weather else []
    return " ".join([where, *lights, *weathers])


def _subject(page: Page, rng: Random, short: bool) -> tuple[list[_Piece], bool] | None:
    """What is there, and whether it sails (then the sea need not be named)."""
    if not page.things:
        return None
    if page.counted:
        return list(_several(page, rng)), False
    phrases = [list(_thing(page, k, rng, short)) for k in range(len(page.things))]
    if len(phrases) == 1:
        pieces = phrases[0]
        sea = page.scenery.place == "sea" and page.things[0].individual.noun in ("boat", "ship", "canoe")
        if sea and rng.random() < 0.4:
            return [*pieces, _Piece("sailing")], True
        return pieces, False
    if len(phrases) == 3:
        return [*phrases[0], _Piece(","), *phrases[1], _Piece("and"), *phrases[2]], False
    assert page.relation is not None
    link, swapped, sails = _link(page, rng)
    a, b = (phrases[1], phrases[0]) if swapped else (phrases[0], phrases[1])
    return [*a, _Piece(link), *b], sails


def _link(page: Page, rng: Random) -> tuple[str, bool, bool]:
    """The words between two things, whether the second is named first, and whether they say that it sails."""
    a, b = page.things
    living = a.individual.drawing.kind in ("animal", "toy")
    if page.relation == "next to":
        swapped = rng.random() < 0.5
        first, second = (b, a) if swapped else (a, b)
        if rng.random() < 0.42:
            return (
                rng.choice(RELATION_WORDS["left" if first.middle < second.middle else "right"]),
                swapped,
                False,
            )
        return rng.choice(RELATION_WORDS["next to"]), swapped, False
    if page.relation == "behind" and rng.random() < 0.5:
        return rng.choice(RELATION_WORDS["in front"]), True, False
    if page.relation == "in" and page.scenery.place == "sea" and rng.random() < 0.6:
        return rng.choice(SAILING), False, True
    assert page.relation is not None
    words = RELATION_WORDS[page.relation]
    if not living:
        words = LIVELESS_RELATIONS.get(page.relation, words)
    return rng.choice(words), False, False


def _several(page: Page, rng: Random) -> Iterator[_Piece]:
    """`two red cats`."""
    one = page.things[0].individual
    yield _Piece(NUMBERS[len(page.things)], 0, "attribute")
    yield from _adjectives(page, 0, rng)
    yield _Piece(plural(_word(page, 0, rng)), 0, "noun")
    if one.pattern is not None:
        yield from _marks(page, 0, rng)


def _thing(page: Page, k: int, rng: Random, short: bool) -> Iterator[_Piece]:
    """`a small red cat with purple ears wearing a top hat`."""
    one, slot = page.things[k].individual, page.slot_of(k)
    word = _word(page, k, rng)
    words = [] if short else list(_adjectives(page, k, rng))
    article = "the" if rng.random() < 0.12 else "a"
    start = with_article(words[0].text if words else word, article)
    lead = start.removesuffix(words[0].text if words else word).strip()
    yield _Piece(lead)
    yield from words
    yield _Piece(word, slot, "noun")
    if short:
        return
    named = any(piece.text in _PATTERN_WORDS for piece in words)
    if one.pattern is not None and not named:
        yield from _marks(page, k, rng)
    else:
        yield from _part(page, k, rng)
    if one.worn is not None and rng.random() < 0.92:
        yield from _wearing(page, k, rng)


_PATTERN_WORDS = frozenset(word for words in PATTERN_ADJECTIVES.values() for word in words)


def _adjectives(page: Page, k: int, rng: Random) -> Iterator[_Piece]:
    one, slot = page.things[k].individual, page.slot_of(k)
    size = page.sizes[k]
    if size is not None and rng.random() < 0.9:
        yield _Piece(rng.choice(SIZE_WORDS[size]), slot, "attribute")
    if one.pattern in PATTERN_ADJECTIVES and rng.random() < 0.4:
        yield _Piece(rng.choice(PATTERN_ADJECTIVES[one.pattern]), slot, "attribute")
    colour = one.colour("main")
    if colour is not None and rng.random() < (0.88 if one.dye("main") else 0.16):
        yield _Piece(colour, slot, "attribute")


def _marks(page: Page, k: int, rng: Random) -> Iterator[_Piece]:
    """`with white spots`."""
    one, slot = page.things[k].individual, page.slot_of(k)
    if one.pattern is None or one.mark is None or rng.random() > 0.92:
        return
    yield _Piece("with")
    if rng.random() < 0.8:
        yield _Piece(one.mark, slot, "attribute")
    yield _Piece(rng.choice(PATTERN_NOUNS[one.pattern]), slot, "attribute")


def _part(page: Page, k: int, rng: Random) -> Iterator[_Piece]:
    """`with purple ears`."""
    one = page.things[k].individual
    there = [(n, slot) for n, slot in enumerate(page.slots) if k in slot.things and slot.part is not None]
    if not there or rng.random() > 0.62:
        return
    n, slot = rng.choice(there)
    assert slot.part is not None
    colour = one.dye(one.drawing.parts[slot.part])
    assert colour is not None
    yield _Piece(part_lead(slot.part, colour))
    yield _Piece(colour, n, "attribute")
    yield _Piece(slot.part, n, "part")


def _wearing(page: Page, k: int, rng: Random) -> Iterator[_Piece]:
    """`wearing a red scarf`."""
    worn = page.things[k].individual.worn
    assert worn is not None
    n = next((n for n, slot in enumerate(page.slots) if k in slot.things and slot.worn), None)
    word = rng.choice((worn.word, *worn.drawing.words))
    first = worn.colour or word
    yield _Piece(rng.choice(("wearing", "wearing", "in", "with")))
    lead = "" if with_article(word) == word else with_article(first).removesuffix(first).strip()
    yield _Piece(lead)
    if worn.colour is not None:
        yield _Piece(worn.colour, n, "attribute")
    yield _Piece(word, n, "part")


def _word(page: Page, k: int, rng: Random) -> str:
    """What the caption calls a thing: the noun in most cases, else another word of its drawing."""
    drawing = page.things[k].individual.drawing
    return drawing.noun if rng.random() < 0.7 else rng.choice(drawing.words)
