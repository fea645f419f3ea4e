"""Prompts read back: nothing is read that the page does not show, and people's own words are understood."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from perfusion_registry.storybook2.captions import caption
from perfusion_registry.storybook2.grammar import NOUNS, WORLD_EPOCH, sample_page
from perfusion_registry.storybook2.reading import Asked, AskedThing, asked
from perfusion_registry.storybook2.vocabulary import caption_words, noun_of, things
from perfusion_registry.storybook2.world.page import Page

CAPTIONS = 300


def told(kind: str) -> list[tuple[Page, str]]:
    rng = Random(f"storybook2/{WORLD_EPOCH}/reading/{kind}")
    pages = [sample_page(rng, split="held-out" if k % 2 else "train") for k in range(CAPTIONS)]
    return [(page, caption(page, rng).text) for page in pages]


def stands(page: Page, read: Asked) -> bool:
    """Whether things stand on the page as was read."""
    nouns = tuple(thing.individual.noun for thing in page.things)
    if page.relation == "next to":
        order = nouns if page.things[0].middle < page.things[1].middle else nouns[::-1]
        sides = {"left of": order, "right of": order[::-1], "next to": read.nouns}
        return sides.get(str(read.relation)) == read.nouns
    also = {"riding": ("on",), "in": ("under",)}.get(str(page.relation), ())
    return read.nouns == nouns and read.relation in (page.relation, *also)


def test_what_is_read_of_a_caption_is_true_of_its_page() -> None:
    for page, text in told("true"):
        read = asked(text)
        shown = {thing.individual.noun: thing.individual for thing in page.things}
        assert set(read.nouns) == set(shown), text
        for thing in read.things:
            one = shown[thing.noun]
            assert thing.colour in (None, one.colour("main")), text
            assert thing.pattern in (None, one.pattern), text
            assert thing.mark in (None, one.mark), text
            assert thing.count in (None, len(page.things)), text
            for word, colour in thing.worn:
                assert one.worn is not None, text
                assert (word, colour) in ((one.worn.word, one.worn.colour), (one.worn.word, None)), text
            for part, colour in thing.parts:
                assert one.dye(one.drawing.parts[part]) == colour, text
        scenery = page.scenery
        assert read.place in (None, scenery.place or ""), text
        assert read.light in (None, scenery.light, "night" if scenery.place == "night" else None), text
        assert read.weather in (None, scenery.weather), text
        assert read.hand in (None, page.hand), text
        assert read.relation is None or stands(page, read), text


def test_most_of_what_a_caption_says_is_read() -> None:
    shown: Counter[str] = Counter()
    read: Counter[str] = Counter()
    for page, text in told("most"):
        question = asked(text)
        pairs = {
            "place": (page.scenery.place, question.place or question.light),
            "hand": (page.hand != "flat", question.hand),
            "relation": (page.relation and page.relation != "next to", question.relation),
            "pattern": (any(t.individual.pattern for t in page.things), [t.pattern for t in question.things]),
        }
        for name, (there, found) in pairs.items():
            shown[name] += bool(there)
            read[name] += bool(there and (any(found) if isinstance(found, list) else found))
    assert all(read[name] > 0.75 * shown[name] for name in shown), (shown, read)


def thing(noun: str, **said: object) -> AskedThing:
    return AskedThing(noun, **said)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("my teddy bear fell asleep on the sofa", Asked((thing("teddy"), thing("sofa")), relation="on")),
        ("a cat who lives in a teapot", Asked((thing("cat"), thing("teapot")), relation="in")),
        ("two owls watching the moon at night", Asked((thing("owl", count=2),), light="night")),
        ("somebody left a red bicycle in the snow", Asked((thing("bicycle", colour="red"),), place="snow")),
        (
            "where is the rabbit? it is hiding under the table",
            Asked((thing("rabbit"), thing("table")), relation="under"),
        ),
        ("a yellow submarine under water", Asked((thing("submarine", colour="yellow"),), place="underwater")),
        ("the rocket ship behind the farm", Asked((thing("rocket"),), place="farm")),
        (
            "a pumpkin in front of the house at night",
            Asked((thing("house"), thing("pumpkin")), light="night", relation="behind"),
        ),
        (
            "a desk lamp and, to the right of it, a cactus",
            Asked((thing("lamp"), thing("cactus")), relation="left of"),
        ),
        ("a shoe with stars on a white background", Asked((thing("shoe", pattern="stars"),), place="")),
        (
            "a snowman holding an umbrella in the rain",
            Asked((thing("snowman"), thing("umbrella")), weather="rain", relation="holding"),
        ),
        (
            "a giraffe with a warm scarf in winter",
            Asked((thing("giraffe", worn=(("scarf", None),)),), place="snow"),
        ),
        ("a unicorn at sunset on the playground", Asked((thing("unicorn"),), "playground", "sunset")),
        ("A Watercolor of a Green Frog at Night in the City",
         Asked((thing("frog", colour="green"),), "city", "night", hand="watercolour")),
        # which of it is red and which is white, nobody can tell; and the world has no dragonflies
        ("a red and white cup with a dragonfly", Asked((thing("cup"),))),
        ("a teddy wearing a wizard hat", Asked((thing("teddy", worn=(("wizard hat", None),)),))),
        ("", Asked(())),
    ],
)  # fmt: skip
def test_free_wordings_are_understood(text: str, asks: Asked) -> None:
    assert asked(text) == asks


def test_captions_say_the_words_of_the_vocabulary_and_no_others() -> None:
    known = set(caption_words())
    for _, text in told("words"):
        said = text.lower().replace("-", " ").replace(",", " ").rstrip(".").split()
        assert known.issuperset(said), text


def test_a_word_for_a_thing_stands_for_a_noun_of_pages() -> None:
    assert things()[: len(NOUNS)] == NOUNS
    assert {noun_of(word) for word in things()} == set(NOUNS)
    assert (noun_of("Kitten"), noun_of("teddy-bear"), noun_of("zebra")) == ("cat", "teddy", None)
