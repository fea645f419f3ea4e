"""Reading prompts: what a sentence asks a picture of this world to show, in captions' words or its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from perfusion_registry.storybook2 import words
from perfusion_registry.storybook2.grammar import NOUNS
from perfusion_registry.storybook2.labels import NONE
from perfusion_registry.storybook2.vocabulary import thing_words
from perfusion_registry.storybook2.world.colours import COLOURS
from perfusion_registry.storybook2.world.drawing import makes, places, wearables
from perfusion_registry.storybook2.world.hands import HANDS

RELATIONS: Mapping[str, tuple[str, ...]] = {
    "next to": ("next to", "beside", "near"),
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "in": ("in", "inside", "into", "within"),
    "on": ("on", "on top of", "onto", "upon"),
    "riding": ("riding", "riding on", "rides", "rides on"),
    "under": ("under", "below", "beneath", "underneath"),
    "behind": ("behind",),
    "before": ("in front of", "before"),
    "holding": ("holding", "carrying", "holds", "carries"),
}
"""How one says that a first thing stands to a second."""
_OTHER_WAY = {"left of": "right of", "right of": "left of", "before": "behind"}
_ARTICLES = ("a", "an", "the")
_AT = ("in", "into", "on", "onto", "at", "by", "through", "behind", "near", "across", "along", "in front of")
_VAGUE = frozenset(("water", "flowers", "moon", "night", "day", "fire", "top", "bottom", "stars", "space"))
_LEAD = re.compile(rf"^(?:(?:{'|'.join(_AT)}) )?(?:(?:{'|'.join(_ARTICLES)}) )?")
_STOPS = frozenset(("and", "or", "with", "of", "is", "has", "who", "that", *_ARTICLES))
_REACH = 4
"""How many words before a thing may be about it."""
_SPELT = {"gray": "grey", "spotty": "spotted", "dotted": "spotted"}


@dataclass(frozen=True)
class AskedThing:
    """A thing that a sentence names.

    noun: as the world calls it. count: how many of it, where a number says so. colour, pattern, mark: of all
    of it; worn: what it wears, each with its colour; parts: each with its colour. None: not said.
    """

    noun: str
    count: int | None = None
    colour: str | None = None
    pattern: str | None = None
    mark: str | None = None
    worn: tuple[tuple[str, str | None], ...] = ()
    parts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Asked:
    """What a sentence asks for.

    things: in the order of their words. place: the name of a place, "" for a plain ground. light: `sunset` or
    `night`. weather, hand: as a page has them. relation: how the first of two things stands to the second, a
    key of `RELATIONS` but `before`. None: not asked for.
    """

    things: tuple[AskedThing, ...]
    place: str | None = None
    light: str | None = None
    weather: str | None = None
    hand: str | None = None
    relation: str | None = None

    @property
    def nouns(self) -> tuple[str, ...]:
        """The things' nouns, each once."""
        return tuple(dict.fromkeys(thing.noun for thing in self.things))


@dataclass(frozen=True)
class _Span:
    """Words start to end of a sentence, and what they are."""

    start: int
    end: int
    kind: str
    value: str


def asked(text: str) -> Asked:
    """Read a sentence. What it says in words that the world does not have is not asked for."""
    said = _words(text)
    spans = list(_spans(said))
    first: dict[str, str] = {}
    for span in spans:
        first.setdefault(span.kind, span.value)
    named_places = [span.value for span in spans if span.kind == "place"]
    elsewhere = [place for place in named_places if place != "night"]
    place, light = (elsewhere[0] if elsewhere else None), first.get("light")
    if "night" in named_places:
        light = "night"  # of the place that is named, else of any, or the place of that name
    named = _named(said, spans)
    things = tuple(_thing(said, spans, named, number) for number in range(len(named)))
    relation = None
    if len(named) == 2 and named[0].value != named[1].value:
        relation, other_way = _relation(said, spans, named[0].end, named[1].start)
        if other_way:
            things = things[::-1]
    return Asked(_once(things), place, light, first.get("weather"), first.get("hand"), relation)


def _words(text: str) -> list[str]:
    found = re.findall(r"[a-z0-9']+|[,.;:?!]", text.lower().replace("-", " "))
    return [_SPELT.get(word, word) for word in found]


def _spans(said: Sequence[str]) -> Iterator[_Span]:
    """What the world has words for, the longest words first, in their order; none overlaps another."""
    at, longest = 0, max(map(len, _phrases()))
    while at < len(said):
        for length in range(min(longest, len(said) - at), 0, -1):
            known = _phrases().get(tuple(said[at : at + length]))
            if known is not None:
                yield _Span(at, at + length, *known)
                at += length
                break
        else:
            at += 1


def _named(said: Sequence[str], spans: Sequence[_Span]) -> list[_Span]:
    """The things of a sentence; a doll's pink shoes are a part of her."""
    found: list[_Span] = []
    for span in spans:
        own = _parts_of(found[-1].value) if found else frozenset()
        part = " ".join(said[span.start : span.end]) in own and _colour_before(said, spans, span)
        if span.kind == "thing" and not part:
            found.append(span)
    return found


def _thing(said: Sequence[str], spans: Sequence[_Span], named: Sequence[_Span], number: int) -> AskedThing:
    """The thing at a span, with what is said of it before and behind."""
    span = named[number]
    colour, pattern, count = _before(said, spans, span)
    until = named[number + 1].start if number + 1 < len(named) else len(said)
    mark: str | None = None
    worn: list[tuple[str, str | None]] = []
    parts: list[tuple[str, str]] = []
    own = _parts_of(span.value)
    for other in spans:
        if not span.end <= other.start < until:
            continue
        painted = _colour_before(said, spans, other)
        if other.kind == "part" and other.value in own and painted is not None:
            parts.append((other.value, painted))
        elif other.value in own:
            continue  # a bow or stripes of some makes alone: nobody can tell which are meant
        elif other.kind == "worn":
            worn.append((other.value, painted))
        elif other.kind == "mark":
            pattern, mark = _PATTERN_OF[other.value], painted
    return AskedThing(span.value, count, colour, pattern, mark, tuple(worn), tuple(parts))


def _before(
    said: Sequence[str], spans: Sequence[_Span], span: _Span
) -> tuple[str | None, str | None, int | None]:
    """The colour, the pattern and the number that the words before a thing give it."""
    colours: list[str] = []
    pattern: str | None = None
    count: int | None = None
    kinds = {at: other for other in spans for at in range(other.start, other.end)}
    for at in range(span.start - 1, max(-1, span.start - 1 - _REACH), -1):
        word, other = said[at], kinds.get(at)
        if word == "and" and colours and at and said[at - 1] in COLOURS:
            return None, pattern, count  # red and white: which of it is which, nobody can tell
        if other is None and (word in _STOPS or not word[0].isalnum()):
            break
        if other is None:
            continue
        if other.kind == "colour":
            colours.append(other.value)
        elif other.kind == "pattern":
            pattern = pattern or other.value
        elif other.kind == "number":
            count = int(other.value)
        elif other.kind != "size":
            break
    return (colours[0] if colours else None), pattern, count


def _colour_before(said: Sequence[str], spans: Sequence[_Span], span: _Span) -> str | None:
    """The colour that stands right before some words."""
    found = [other for other in spans if other.end == span.start and other.kind == "colour"]
    return found[0].value if found else None


def _relation(said: Sequence[str], spans: Sequence[_Span], start: int, end: int) -> tuple[str | None, bool]:
    """The relation that the last words between two things say, and whether it is of the second to the
    first."""
    worn = [other.end for other in spans if other.kind == "worn" and start <= other.start < end]
    start = max([start, *worn])  # `in a party hat and a cat`: nobody is in a cat
    told = [other for other in spans if other.kind == "relation" and start <= other.start < end]
    if not told:
        return None, False
    last = told[-1]
    of_it = said[last.end : last.end + 1] == ["it"]
    relation, other_way = last.value, of_it
    if relation == "before":
        relation, other_way = "behind", not other_way
    if of_it and relation in ("left of", "right of"):
        # `a lamp and, to the right of it, a cactus`: told of the lamp
        relation, other_way = _OTHER_WAY[relation], False
    return relation, other_way


def _once(things: Sequence[AskedThing]) -> tuple[AskedThing, ...]:
    """The things, of each noun the first: a sentence may come back to it."""
    first: dict[str, AskedThing] = {}
    for thing in things:
        first.setdefault(thing.noun, thing)
    return tuple(first.values())


_PATTERN_OF = {noun: kind for kind, nouns in words.PATTERN_NOUNS.items() for noun in nouns}


@cache
def _parts_of(noun: str) -> frozenset[str]:
    return frozenset(part for drawing in makes()[noun] for part in drawing.parts)


@cache
def _phrases() -> dict[tuple[str, ...], tuple[str, str]]:
    """All that the world has words for: the words, their kind and what they stand for."""
    found: dict[tuple[str, ...], tuple[str, str]] = {}
    for text, kind, value in _known():
        found.setdefault(tuple(text.replace("-", " ").split()), (kind, value))
    return found


def _known() -> Iterator[tuple[str, str, str]]:
    """Words, kind, value; the first of two that have the same words holds."""
    yield "at night", "place", "night"
    yield "by night", "place", "night"
    for light, shines in words.LIGHT_WORDS.items():
        yield from ((text, "light", light) for text in shines)
    for weather, falls in words.WEATHER_WORDS.items():
        yield from ((text, "weather", weather) for text in falls)
    for name, drawing in places().items():
        yield from ((text, "place", name) for text in drawing.words)
    for name, drawing in places().items():
        for text in drawing.words:
            yield from ((other, "place", name) for other in _elsewhere(text))
    for colour in COLOURS:
        for ground, at in ((ground, at) for ground in ("background", "wall") for at in ("on", "against")):
            yield f"{at} {words.with_article(f'{colour} {ground}')}", "place", NONE
    for hand in HANDS[1:]:
        yield from ((text.strip(), "hand", hand) for text in words.HAND_OPENINGS[hand] if text.strip())
        yield from ((text, "hand", hand) for text in words.HAND_ENDINGS.get(hand, ()))
        yield from ((text.strip().partition(" ")[2], "hand", hand) for text in words.HAND_OPENINGS[hand])
    for noun in NOUNS:
        for text in thing_words()[noun]:
            yield text, "thing", noun
            yield words.plural(text), "thing", noun
    for word, drawing in wearables().items():
        yield from ((text, "worn", word) for text in dict.fromkeys((word, *drawing.words)))
    for relation, ways in RELATIONS.items():
        yield from ((text, "relation", relation) for text in ways)
    for colour in COLOURS:
        yield colour, "colour", colour
    for pattern, adjectives in words.PATTERN_ADJECTIVES.items():
        yield from ((text, "pattern", pattern) for text in adjectives)
    for text in _PATTERN_OF:
        yield text, "mark", text
    for sizes in words.SIZE_WORDS.values():
        yield from ((text, "size", text) for text in sizes)
    for number, text in words.NUMBERS.items():
        yield text, "number", str(number)
    for noun in NOUNS:
        yield from ((part, "part", part) for part in sorted(_parts_of(noun)))


def _elsewhere(text: str) -> Iterator[str]:
    """A place's words with other words before them: `through the forest` of `in a forest`."""
    place = _LEAD.sub("", text)
    if _VAGUE.isdisjoint((place.split()[0], place.split()[-1])):
        for at in _AT:
            yield from (f"{at} {article}{place}" for article in ("", "a ", "an ", "the "))
