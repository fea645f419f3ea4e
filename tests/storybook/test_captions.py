"""Captions: true of their pages, short enough, and apart from what is held out."""

import re
from random import Random

import pytest

from perfusion_registry.base import describe_base
from perfusion_registry.base.bounds import BaseBounds
from perfusion_registry.storybook.captions import (
    caption,
    caption_words,
    held_out_pages,
    is_held_out,
    is_reserved,
    training_pages,
)
from perfusion_registry.storybook.cast import CAST
from perfusion_registry.storybook.world import ACCESSORIES, CATEGORIES, COLOURS, Individual, Page


def sample(count: int) -> list[tuple[Page, str]]:
    pages = training_pages(Random(5))
    return [next(pages) for _ in range(count)]


def test_captions_name_every_subject_in_order() -> None:
    for page, text in sample(500):
        positions = [re.search(rf"\b{one.category}\b", text) for one in page.subjects]
        assert all(positions), text
        starts = [m.start() for m in positions if m]
        assert starts == sorted(starts), text


def test_what_a_caption_says_is_true() -> None:
    for page, text in sample(1500):
        worn = {one.accessory for one in page.subjects}
        told = {word for word in COLOURS if re.search(rf"\b{word}\b", text.replace("a red scarf", ""))}
        true = {c for one in page.subjects for c in (one.colour, one.second, one.third, one.mark)}
        assert told <= true, text
        assert {a for a in ACCESSORIES if a in text} <= worn, text
        assert ("reading a book" in text) <= any(one.reading for one in page.subjects), text
        if "sailing" in text:
            assert page.scene == "on the sea", text
        if page.style == "watercolor":
            assert "watercolor" in text or "painting" in text, text


def test_the_main_colour_precedes_the_noun() -> None:
    checked = 0
    for page, text in sample(800):
        for one in page.subjects:
            found = re.search(rf"\b({'|'.join(COLOURS)}) {one.category}\b", text)
            if found and sum(o.category == one.category for o in page.subjects) == 1:
                assert found[1] == one.colour, text
                checked += 1
    assert checked > 200


def test_the_same_page_is_told_in_many_ways() -> None:
    page = sample(1)[0][0]
    rng = Random(1)
    assert len({caption(page, rng) for _ in range(50)}) > 10


def test_training_never_shows_what_is_held_out_or_reserved() -> None:
    for page, _ in sample(2000):
        assert not is_held_out(page)
        assert not any(is_reserved(one) for one in page.subjects)
    held = held_out_pages(Random(6))
    assert all(is_held_out(next(held)[0]) for _ in range(50))


@pytest.mark.parametrize("name", CAST)
def test_the_cast_is_reserved(name: str) -> None:
    assert is_reserved(CAST[name])
    assert CAST[name].category in CATEGORIES


def test_categories_are_balanced_enough() -> None:
    counts = dict.fromkeys(CATEGORIES, 0)
    for page, _ in sample(3000):
        for one in page.subjects:
            counts[one.category] += 1
    assert min(counts.values()) > 0.3 * max(counts.values()), counts


def test_a_plain_individual_is_not_reserved() -> None:
    assert not is_reserved(Individual("teddy", "brown", "brown", "brown"))


def test_the_words_of_captions_are_all_that_the_base_was_trained_on() -> None:
    said = {word for _, text in sample(5000) for word in re.findall(r"[^\W\d_]+", text)}
    assert said == set(caption_words())
    bounds = BaseBounds.of(describe_base("storybook"))
    assert (bounds.things, bounds.words) == (CATEGORIES, caption_words())
