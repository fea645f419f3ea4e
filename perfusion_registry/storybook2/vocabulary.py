"""The words of this world: what captions say, and which noun a word for a thing stands for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from perfusion_registry.storybook2 import words
from perfusion_registry.storybook2.grammar import NOUNS
from perfusion_registry.storybook2.world.colours import COLOURS
from perfusion_registry.storybook2.world.drawing import makes, places, wearables
from perfusion_registry.storybook2.world.hands import HANDS

BACKDROPS = ("on", "against", "background", "wall")


@cache
def noun_of(word: str) -> str | None:
    """The noun that a word for a thing stands for, such as `cat` of `Kitten`; None of a word for none."""
    return _nouns().get(" ".join(word.lower().replace("-", " ").split()))


@cache
def thing_words() -> dict[str, tuple[str, ...]]:
    """What captions call each noun, the noun first."""
    return {
        noun: tuple(dict.fromkeys(word for drawing in makes()[noun] for word in drawing.words))
        for noun in NOUNS
    }


@cache
def things() -> tuple[str, ...]:
    """All words for things, as captions have them: the nouns, then what else these are called."""
    others = (word for told in thing_words().values() for word in told[1:])
    return tuple(dict.fromkeys((*NOUNS, *others)))


@cache
def caption_words() -> tuple[str, ...]:
    """All words that captions say, in alphabetical order: what the base has seen of a language."""
    said = {part for text in _said() for part in text.lower().replace("-", " ").replace(",", " ").split()}
    return tuple(sorted(said))


def _nouns() -> dict[str, str]:
    return {
        word.replace("-", " "): noun for noun, told in thing_words().items() for word in told
    }  # the makes of a noun share it, and a word belongs to one noun only (`STYLE.md`)


def _said() -> Iterator[str]:
    for told in thing_words().values():
        yield from told
        yield from map(words.plural, told)
    yield from COLOURS
    for place in places().values():
        yield from place.words
    for worn, drawing in wearables().items():
        yield worn
        yield from drawing.words
    for noun in NOUNS:
        for drawing in makes()[noun]:
            yield from drawing.parts
    tables = (
        words.SIZE_WORDS, words.PATTERN_ADJECTIVES, words.PATTERN_NOUNS, words.HAND_ENDINGS,
        words.LIGHT_WORDS, words.WEATHER_WORDS, words.RELATION_WORDS,
        {hand: words.HAND_OPENINGS[hand] for hand in HANDS},
    )  # fmt: skip
    for table in tables:
        for phrases in table.values():
            yield from phrases
    yield from words.NUMBERS.values()
    yield from words.SAILING
    yield from BACKDROPS
    yield "a an the and with in wearing sailing an empty"
