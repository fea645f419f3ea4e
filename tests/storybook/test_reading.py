"""Captions read back: nothing is read that the page does not show."""

from __future__ import annotations

from random import Random

import pytest

from perfusion_registry.storybook.captions import held_out_pages, training_pages
from perfusion_registry.storybook.reading import asked


def test_what_is_read_of_a_caption_is_true_of_its_page() -> None:
    for pages in (training_pages(Random(3)), held_out_pages(Random(3))):
        for _ in range(1500):
            page, text = next(pages)
            read = asked(text)
            assert read.categories == tuple(one.category for one in page.subjects), text
            looks = {one.category: one.material for one in page.subjects}
            assert all(looks[category] == material for category, material in read.materials.items()), text
            assert read.scene in (None, page.scene), text
            assert read.relation == page.relation, text
            worn = {one.accessory for one in page.subjects} | {
                "reading" for one in page.subjects if one.reading
            }
            assert set(read.accessories) <= worn, text
            assert read.watercolor == (page.style == "watercolor"), text


def test_most_of_what_a_page_shows_is_read() -> None:
    pages = training_pages(Random(4))
    scenes, read = 0, 0
    for _ in range(1000):
        page, text = next(pages)
        scenes += page.scene is not None
        read += asked(text).scene is not None
    assert read > 0.9 * scenes


@pytest.mark.parametrize(
    ("text", "materials"),
    [
        ("a gold teapot next to a cat", {"teapot": "gold"}),
        ("a cat next to a red knitted teddy", {"teddy": "knitted"}),
        ("a photo of a pot made of pure gold by the fire", {"pot": "gold"}),
        ("a cat in a boat made of glass", {"boat": "glass"}),
        ("a teapot made out of yarn", {"teapot": "knitted"}),
        ("a teddy with a gold ear", {}),
    ],
)
def test_a_material_belongs_to_the_nearest_thing(text, materials) -> None:
    assert asked(text).materials == materials


def test_a_place_is_not_a_container() -> None:
    read = asked("a dog sitting in a pot in the snow")
    assert (read.categories, read.scene) == (("dog", "pot"), "in the snow")
