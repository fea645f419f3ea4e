"""The exact metrics, on pages whose truth is known because they were drawn for it."""

from __future__ import annotations

import pytest
import torch

from perfusion_registry.base import Base, describe_base, load_base
from perfusion_registry.base.embedded import embedded_folder
from perfusion_registry.evaluate.leakage import outside
from perfusion_registry.storybook.cast import CAST
from perfusion_registry.storybook.judgement import (
    LOOK_ALIKES,
    Portrayed,
    identified,
    look_alikes,
    own_looks,
    portraits,
    shown,
)
from perfusion_registry.storybook.reading import asked
from perfusion_registry.storybook.recogniser import Recogniser
from perfusion_registry.storybook.world import Individual, Page, draw_page, paint

WEIGHTS = embedded_folder()
KNOWN = 5
"""Of the look-alikes, how many have portraits: each costs as much as the pictures that are told."""


def drawn(*pages: Page) -> torch.Tensor:
    return paint([draw_page(page) for page in pages], size=128).images


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Recogniser.load(WEIGHTS / "recogniser.safetensors")


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base(describe_base("storybook"), "cpu", "float32")


@pytest.fixture(scope="module")
def subject(recogniser):
    """Somebody of the cast, as a subject."""
    return lambda name: Portrayed(CAST[name].category, own_looks(recogniser, CAST[name]))


def rates(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def test_a_page_that_shows_what_was_asked_obeys(recogniser, subject) -> None:
    teddy = CAST["teddy"]
    pages = [Page((teddy,), None, "in the snow", None, seed) for seed in range(12)]
    rows = shown(recogniser.recognise(drawn(*pages)), asked("a teddy in the snow"), [subject("teddy")])
    assert set(rows[0]) == {"category", "look", "scene", "obeyed"}
    told = rates(rows)
    assert min(told.values()) > 0.9


def test_a_page_that_shows_something_else_does_not(recogniser, subject) -> None:
    other = Individual("cat", "brown", "brown", "brown")
    pages = [Page((other,), None, "by the fire", None, seed) for seed in range(12)]
    text = "a teddy wearing a crown next to a boat in the snow"
    told = rates(shown(recogniser.recognise(drawn(*pages)), asked(text), [subject("teddy")]))
    assert set(told) == {"category", "look", "scene", "accessory", "second", "obeyed"}
    assert max(value for name, value in told.items() if name != "look") < 0.1


def test_both_needs_each_individual_in_its_own_colour(recogniser, subject) -> None:
    question = asked("a teddy next to a teapot")
    wanted = [subject("teddy"), subject("teapot")]
    right = [
        Page((CAST["teddy"], CAST["teapot"]), "next to", "in a garden", None, seed) for seed in range(12)
    ]
    strange = Individual("teapot", "red", "red", "red")
    wrong = [Page((CAST["teddy"], strange), "next to", "in a garden", None, seed) for seed in range(12)]
    alone = [Page((CAST["teddy"],), None, "in a garden", None, seed) for seed in range(12)]
    told = [
        rates(shown(recogniser.recognise(drawn(*pages)), question, wanted))["both"]
        for pages in (right, wrong, alone)
    ]
    assert told[0] > 0.7
    assert max(told[1:]) < 0.2


def test_where_a_material_is_asked_the_own_colour_is_not(recogniser, subject) -> None:
    found = recogniser.recognise(drawn(Page((CAST["teapot"],), None, None, None, 1)))
    (row,) = shown(found, asked("a gold teapot"), [subject("teapot")])
    assert set(row) == {"category", "material", "obeyed"}
    assert row["material"] == 0


def test_a_concept_that_the_world_does_not_know_has_no_look(recogniser) -> None:
    found = recogniser.recognise(drawn(Page((CAST["teapot"],), None, None, None, 1)))
    assert shown(found, asked("a photo of a lamp"), [Portrayed("lamp")]) == [{}]


@pytest.mark.parametrize(("name", "scene"), [("cat", "in the snow"), ("teapot", "by the fire")])
def test_hand_drawn_pages_are_told_from_look_alikes(recogniser, base, name, scene) -> None:
    one = CAST[name]
    candidates = look_alikes(one)
    assert len(candidates) == LOOK_ALIKES
    assert candidates[0] == one
    assert one not in candidates[1:]
    assert all(other.traits() != one.traits() for other in candidates[1:])
    some = [(other,) for other in candidates[:KNOWN]]
    known = portraits(recogniser, base, one.category, some, None, scene, None)
    own = drawn(*(Page((one,), None, scene, None, seed) for seed in range(8)))
    others = drawn(*(Page((candidates[3],), None, scene, None, seed) for seed in range(8)))
    seen = (recogniser.describe(pages, one.category) for pages in (own, others))
    hits, misses = (float(identified(features, known).float().mean()) for features in seen)
    assert hits > 0.7
    assert misses < 0.2


@pytest.mark.parametrize(("relation", "number"), [("next to", 0), ("next to", 1), ("in", 0), ("in", 1)])
def test_an_individual_is_told_from_its_look_alikes_beside_another(
    recogniser, base, relation, number
) -> None:
    pair = (CAST["teddy"], CAST["teapot"])
    others = look_alikes(pair[number])[:KNOWN]
    candidates = [(*pair[:number], other, *pair[number + 1 :]) for other in others]
    kind = pair[number].category
    known = portraits(recogniser, base, kind, candidates, relation, "in the snow", None)
    pictures = (
        base.reconstructed(drawn(*(Page(shown, relation, "in the snow", None, seed) for seed in range(8))))
        for shown in (candidates[0], candidates[3])
    )
    seen = (recogniser.describe(pages, kind) for pages in pictures)
    hits, misses = (float(identified(features, known).float().mean()) for features in seen)
    assert hits > 0.7
    assert misses < 0.2


@pytest.mark.parametrize("name", CAST)
def test_everybodys_own_look_is_among_its_colours(recogniser, name) -> None:
    one = CAST[name]
    looks = own_looks(recogniser, one)
    assert looks
    assert looks <= {one.colour, one.second, one.third, one.mark}


def test_leakage_is_the_share_outside() -> None:
    mask = torch.zeros(8, 8)
    mask[:4] = 1
    assert outside(mask.clone(), mask) == pytest.approx(0)
    assert outside(1 - mask, mask) == pytest.approx(1)
    assert outside(torch.ones(8, 8), mask) == pytest.approx(0.5)
    assert outside(3 * torch.ones(4, 4), mask) == pytest.approx(0.5)
