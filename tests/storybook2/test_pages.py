"""Pages: what they show is what they know, what they say is what they show, and training sees no more."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from random import Random

import numpy as np
import pytest

from perfusion_registry.storybook2 import words
from perfusion_registry.storybook2.captions import Caption, caption
from perfusion_registry.storybook2.grammar import WORLD_EPOCH, is_held_out, sample_page
from perfusion_registry.storybook2.world.colours import COLOURS
from perfusion_registry.storybook2.world.drawing import wearables
from perfusion_registry.storybook2.world.hands import HANDS, UNSEEN
from perfusion_registry.storybook2.world.page import MOST_SLOTS, Drawn, Page

DRAWN = 24


@cache
def page(index: int, split: str = "train") -> Page:
    return sample_page(Random(f"storybook2/{WORLD_EPOCH}/tests/{index}"), split=split)


@cache
def told(index: int) -> tuple[Page, Caption]:
    rng = Random(f"storybook2/{WORLD_EPOCH}/tests/{index}")
    shown = sample_page(rng)
    return shown, caption(shown, rng)


@cache
def drawn(index: int) -> Drawn:
    return page(index).draw()


_DIGEST = """
import hashlib
from random import Random
from perfusion_registry.storybook2.captions import caption
from perfusion_registry.storybook2.grammar import sample_page
digest = hashlib.sha256()
for index in range(3):
    rng = Random(f"storybook2/{index}")
    page = sample_page(rng)
    made = page.draw()
    digest.update(made.image.tobytes() + made.slot_masks().tobytes() + repr(caption(page, rng)).encode())
print(digest.hexdigest())
"""


def test_two_processes_draw_and_tell_the_same_bytes() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", _DIGEST],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert len(runs[0]) == len(hashlib.sha256().hexdigest())


def test_a_page_is_plain_data() -> None:
    again = sample_page(Random(f"storybook2/{WORLD_EPOCH}/tests/0"))
    assert again == page(0)
    assert hash(again) == hash(page(0))


@pytest.mark.parametrize("index", range(DRAWN))
def test_masks_are_disjoint_and_parts_lie_in_their_things(index: int) -> None:
    shown, made = page(index), drawn(index)
    assert made.image.shape == (256, 256, 3)
    assert made.slot_masks().shape == (MOST_SLOTS, 256, 256)
    masks = [seen.mask.astype(int) for seen in made.things]
    assert sum(masks, np.zeros((256, 256), int)).max() <= 255 + 2 * len(masks)
    for mask in masks:
        assert (mask > 127).sum() > 300
    for k, slot in enumerate(shown.slots):
        of = np.max([made.things[n].mask for n in slot.things], 0).astype(int)
        if slot.part is not None:
            assert (made.masks[k].astype(int) - of).max() <= 6


def _attributes() -> set[str]:
    attributes = set(COLOURS)
    attributes |= {
        w
        for table in (words.SIZE_WORDS, words.PATTERN_ADJECTIVES, words.PATTERN_NOUNS)
        for t in table.values()
        for w in t
    }
    return attributes | set(words.NUMBERS.values())


def test_mentions_point_at_the_words_that_they_name() -> None:
    attributes = _attributes()
    kinds = set()
    for index in range(450):
        shown, made = told(index)
        last = 0
        for mention in made.mentions:
            said = made.text[mention.start : mention.end].lower()
            assert mention.start >= last
            last = mention.end
            slot = shown.slots[mention.slot]
            drawing = shown.things[slot.things[0]].individual.drawing
            kinds.add(mention.kind)
            if mention.kind == "noun":
                assert said in drawing.words or said in {words.plural(word) for word in drawing.words}
            elif mention.kind == "attribute":
                assert said in attributes
            elif slot.worn is not None:
                assert said in wearables()[slot.worn].words
            else:
                assert said == slot.part
        if shown.things:
            assert {k for m in made.mentions if m.kind == "noun" for k in shown.slots[m.slot].things} == set(
                range(len(shown.things))
            )
    assert kinds == {"noun", "attribute", "part"}


def test_left_and_right_are_those_of_the_picture() -> None:
    left, right = set(words.RELATION_WORDS["left"]), set(words.RELATION_WORDS["right"])
    seen = 0
    for index in range(450):
        shown, made = told(index)
        if shown.relation != "next to":
            continue
        first, second = [
            m.slot for m in made.mentions if m.kind == "noun" and shown.slots[m.slot].worn is None
        ][:2]
        x = [shown.things[k].middle for k in (first, second)]
        lower = made.text.lower()
        if any(f" {phrase} " in lower for phrase in left):
            assert x[0] < x[1], made.text
        elif any(f" {phrase} " in lower for phrase in right):
            assert x[0] > x[1], made.text
        else:
            continue
        if seen < 6:
            masks = shown.draw().things
            middles = [np.nonzero(masks[k].mask > 127)[1].mean() for k in (first, second)]
            assert (middles[0] < middles[1]) == (x[0] < x[1])
        seen += 1
    assert seen > 12


def test_training_sees_nothing_that_is_held_out() -> None:
    assert not any(is_held_out(page(index)) for index in range(700))


def test_measuring_sees_what_is_held_out_on_half_of_its_pages() -> None:
    held = [is_held_out(page(index, "held-out")) for index in range(200)]
    assert 0.5 < np.mean(held) < 0.9


@pytest.mark.parametrize("hand", [*HANDS, UNSEEN])
def test_every_hand_draws_and_is_named(hand: str) -> None:
    shown = replace(next(page(k) for k in range(50) if page(k).scenery.light == "day"), hand=hand)
    made = shown.draw()
    assert np.array_equal(made.masks, replace(shown, hand="flat").draw().masks)
    texts = [caption(shown, Random(k)).text.lower() for k in range(12)]
    tells = [*words.HAND_OPENINGS[hand], *words.HAND_ENDINGS.get(hand, ())]
    if hand != "flat":
        assert all(any(tell.strip() and tell.strip() in text for tell in tells) for text in texts)
        assert not np.array_equal(made.image, replace(shown, hand="flat").draw().image)
