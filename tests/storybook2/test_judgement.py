"""What pictures show against what is asked: laws, by pages that know the truth about themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from random import Random

import pytest
import torch

from perfusion_registry.storybook2.captions import caption
from perfusion_registry.storybook2.cast import CAST
from perfusion_registry.storybook2.everyday import all_shown, everyday_prompts, page_for
from perfusion_registry.storybook2.grammar import WORLD_EPOCH, sample_page
from perfusion_registry.storybook2.judgement import (
    LOOK_ALIKES,
    PORTRAITS,
    Portrayed,
    Recognised,
    identified,
    look_alikes,
    own_looks,
    portraits,
    shown,
    traits,
)
from perfusion_registry.storybook2.labels import LABELS
from perfusion_registry.storybook2.reading import Asked, AskedThing, asked
from perfusion_registry.storybook2.recogniser import Recogniser
from perfusion_registry.storybook2.staging import scenery_of, staged
from perfusion_registry.storybook2.training.truth import truth_of
from perfusion_registry.storybook2.world.page import Page


class Truthful:
    """Pages, and the truth about them, in the place of a recogniser."""

    def __init__(self, *pages: Page) -> None:
        self._pages, self._truth = pages, truth_of(pages)

    def __len__(self) -> int:
        return len(self._pages)

    def present(self, noun: str) -> list[bool]:
        return self._truth.present[:, LABELS.nouns.index(noun)].tolist()

    def trait(self, noun: str, name: str) -> list[str]:
        where = (self._truth.things == LABELS.nouns.index(noun)).int().argmax(1)
        told = self._truth.traits[name][torch.arange(len(self)), where]
        return [LABELS.traits[name][answer] if answer >= 0 else "untold" for answer in told.tolist()]

    def whole(self, name: str) -> list[str]:
        told = self._truth.wholes[name].tolist()
        return [LABELS.wholes[name][answer] if answer >= 0 else "untold" for answer in told]

    def relation(self, first: str, second: str) -> list[str]:
        ways = [
            page.relation if page.relation != "next to" else self._side(page, first) for page in self._pages
        ]
        order = [[thing.individual.noun for thing in page.things[:1]] for page in self._pages]
        return [
            way if page.relation == "next to" or ones == [first] else "the other way"
            for way, ones, page in zip(map(str, ways), order, self._pages, strict=True)
        ]

    def _side(self, page: Page, first: str) -> str:
        left = min(page.things, key=lambda thing: thing.middle).individual.noun
        return "left of" if left == first else "right of"


@cache
def told() -> Sequence[tuple[Page, str]]:
    rng = Random(f"storybook2/{WORLD_EPOCH}/judgement")
    pages = [page for page in (sample_page(rng) for _ in range(200)) if page.things]
    return [(page, caption(page, rng).text) for page in pages]


def subject(page: Page) -> Portrayed:
    one = page.things[0].individual
    colour = one.colour("main")
    return Portrayed(one.noun, frozenset((colour,)) if colour else frozenset())


def test_a_page_shows_all_that_its_caption_asks_for() -> None:
    for page, text in told():
        (row,) = shown(Truthful(page), asked(text), [subject(page)])
        assert all(value == 1 for value in row.values()), (text, row)


def test_what_is_not_asked_for_has_no_entry_and_obedience_is_all_the_rest() -> None:
    for page, text in told():
        question = asked(text)
        (row,) = shown(Truthful(page), question, [subject(page)])
        assert ("scene" in row) == any(
            value is not None for value in (question.place, question.light, question.weather)
        )
        assert ("relation" in row) == (question.relation is not None)
        assert ("obeyed" in row) == bool(row.keys() - {"category", "look"}), text


def test_another_page_fails_what_it_does_not_show() -> None:
    """Each page by the caption of the next: what it fails is no less than what differs."""
    failed = asked_for = 0
    for (page, _), (_, text) in zip(told(), told()[1:], strict=False):
        question = asked(text)
        (row,) = shown(Truthful(page), question, [Portrayed(question.things[0].noun)])
        nouns = {thing.individual.noun for thing in page.things}
        assert row["category"] == (question.things[0].noun in nouns)
        if "obeyed" in row:
            asked_for += 1
            failed += not row["obeyed"]
    assert failed > 0.95 * asked_for


def test_everyday_prompts_have_pages_that_show_all_that_they_ask_for() -> None:
    prompts = everyday_prompts()
    assert len(prompts) == len({asked(prompt) for prompt in prompts}) == 40
    for number, prompt in enumerate(prompts):
        page = page_for(prompt, Random(f"everyday {number}"))
        # a hedgehog is drawn without a hand that could carry anything
        assert all_shown(Truthful(page), prompt) == ["hedgehog" not in prompt], prompt
        other = page_for(prompts[number - 1], Random(0))
        assert all_shown(Truthful(other), prompt) == [False], prompt


def page_of(*names: str, relation: str | None = None, question: Asked | None = None) -> Page:
    rng = Random(f"staged {names} {relation}")
    ones = [CAST[name] for name in names]
    return staged(ones, relation, scenery_of(question or Asked(()), rng), rng)


def test_both_needs_each_individual_in_its_own_colour_or_the_one_asked_for() -> None:
    pair = [Portrayed("teddy", frozenset(("green",))), Portrayed("teapot", frozenset(("red",)))]
    both, alone = Truthful(page_of("teddy", "teapot")), Truthful(page_of("teddy"))
    plain = asked("a teddy next to a teapot")
    assert shown(both, plain, pair)[0]["both"] == 1
    assert shown(alone, plain, pair)[0]["both"] == 0
    strange = [pair[0], Portrayed("teapot", frozenset(("blue",)))]
    assert shown(both, plain, strange)[0]["both"] == 0
    assert shown(both, asked("a teddy next to a red teapot"), strange)[0]["both"] == 1


def test_a_colour_that_is_asked_for_takes_the_place_of_the_own_one() -> None:
    seen = Truthful(page_of("teapot"))
    (row,) = shown(seen, asked("a blue teapot"), [Portrayed("teapot", frozenset(("red",)))])
    assert row == {"category": 1, "colour": 0, "obeyed": 0}


def test_a_concept_that_the_world_does_not_know_has_no_category() -> None:
    assert shown(Truthful(page_of("teapot")), asked("a photo of a zebra"), [Portrayed(None)]) == [{}]


def test_night_is_a_place_or_the_light_of_another() -> None:
    subjects = [Portrayed("teapot")]
    for text, question in (("night", Asked((), light="night")), ("sea", Asked((), "sea", "night"))):
        (row,) = shown(Truthful(page_of("teapot", question=question)), asked("a teapot at night"), subjects)
        assert row["scene"] == 1, text
    day = Truthful(page_of("teapot", question=Asked((), "sea")))
    assert shown(day, asked("a teapot on the sea at night"), subjects)[0]["scene"] == 0


@pytest.mark.parametrize("relation", ["next to", "left of", "right of", "in", "behind", "on", "under"])
def test_individuals_stand_as_a_prompt_asks(relation: str) -> None:
    host = {"on": "chair", "under": "chair"}.get(relation, "teapot")
    page = page_of("teddy", host, relation=relation)
    assert [thing.individual for thing in page.things] == [CAST["teddy"], CAST[host]]
    question = Asked((AskedThing("teddy"), AskedThing(CAST[host].noun)), relation=relation)
    assert shown(Truthful(page), question, [Portrayed("teddy")])[0]["relation"] == 1


def test_what_has_no_rim_is_stood_next_to() -> None:
    assert page_of("teddy", "shoe", relation="in").relation == "next to"


@pytest.mark.parametrize("name", ["teddy", "puppy", "teapot", "shoe"])
def test_look_alikes_are_others_of_its_kind(name: str) -> None:
    one = CAST[name]
    candidates = look_alikes(one)
    assert candidates == look_alikes(one)
    assert candidates[0] == one
    assert len(candidates) == len({traits(other) for other in candidates}) == LOOK_ALIKES
    assert {other.noun for other in candidates} == {one.noun}
    assert sum(other.name == one.name for other in candidates) > LOOK_ALIKES // 2
    assert all(other.worn is None for other in candidates)


class Through:
    """A base whose autoencoder gives everything back as it is."""

    def reconstructed(self, images: torch.Tensor) -> torch.Tensor:
        return images


@cache
def untrained() -> Recogniser:
    torch.manual_seed(0)
    return Recogniser(LABELS).eval().requires_grad_(False)


def test_portraits_are_of_everybody_in_the_scene_that_is_asked_for() -> None:
    """Whoever looks at the very pages of one of them tells that one, by any features at all."""
    some = [(other,) for other in look_alikes(CAST["rabbit"])[:3]]
    question = asked("a rabbit on the beach at sunset")
    known = portraits(untrained(), Through(), "rabbit", some, question, None)  # type: ignore[arg-type]
    assert known.shape[:2] == (3, PORTRAITS)
    assert identified(known[0], known).all()
    assert not identified(known[2], known).any()
    elsewhere = portraits(untrained(), Through(), "rabbit", some, replace(question, place="sea"), None)  # type: ignore[arg-type]
    assert not torch.allclose(known, elsewhere)


def test_a_recogniser_answers_as_its_logits_say() -> None:
    model, images = untrained(), torch.rand(3, 3, 128, 128)
    seen, look = Recognised(model, images), model.look(images)
    nouns = torch.full((3,), LABELS.nouns.index("teapot"))
    assert len(seen) == 3
    assert seen.present("teapot") == (model.present(look)[:, nouns[0]] > 0).tolist()
    main = model.traits(look, nouns)["main"].argmax(-1)
    assert seen.trait("teapot", "main") == [LABELS.traits["main"][answer] for answer in main]
    assert len(own_looks(model, CAST["pot"])) >= 1
