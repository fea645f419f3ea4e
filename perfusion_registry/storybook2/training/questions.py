"""Questions to a base of this world: prompts of pages that no training saw, and whether pictures show what
they ask for, as the recogniser tells."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor

from perfusion_registry.storybook2.grammar import WORLD_EPOCH, is_held_out, sample_page
from perfusion_registry.storybook2.recogniser import Recogniser
from perfusion_registry.storybook2.training.attention import NOUN
from perfusion_registry.storybook2.training.drawings import Wording
from perfusion_registry.storybook2.words import RELATION_WORDS, with_article
from perfusion_registry.storybook2.world.page import Page

KINDS = {
    "one thing": ("alone", None),
    "two things": ("beside", "next to"),
    "left of": ("beside", "left of"),
    "right of": ("beside", "right of"),
    "in": ("in", "in"),
    "on": ("on", "on"),
}
"""What is asked, with the kind of page that shows it, and the relation."""
_WORDS = {"left of": "left of", "right of": "right of"}


@dataclass(frozen=True)
class Question:
    """A prompt, and what it asks for.

    wording: the prompt, with the nouns as mentions of slots 0 and 1. page: one that shows what it asks for.
    things: each noun with its colour, in the order of the prompt. place: where they are. relation: of the
    first thing to the second, as the recogniser calls it; None where none is asked for.
    """

    wording: Wording
    page: Page
    things: tuple[tuple[str, str], ...]
    place: str
    relation: str | None = None

    @property
    def prompt(self) -> str:
        """What the base is given."""
        return self.wording.text


def questions(kind: str, count: int) -> list[Question]:
    """The first `count` questions of a kind, always the same. Something of each is held out of training: a
    look, or a combination."""
    rng = Random(f"storybook2/{WORLD_EPOCH}/questions/{kind}")
    found = _asked(rng, *KINDS[kind])
    return [next(found) for _ in range(count)]


def _asked(rng: Random, kind: str, relation: str | None) -> Iterator[Question]:
    while True:
        page = sample_page(rng, split="held-out", kind=kind)
        place, ones = page.scenery.drawing, [thing.individual for thing in page.things]
        plain = page.scenery.light == "day" and page.scenery.weather is None
        if not plain or place is None or not is_held_out(page):
            continue
        if any(one.dye("main") is None or one.pattern or one.worn for one in ones):
            continue
        if relation in ("left of", "right of"):
            first, second = page.things
            if (first.middle < second.middle) is not (relation == "left of"):
                continue
        text, spans = "", []
        for slot, one in enumerate(ones):
            words = _WORDS.get(relation or "") or RELATION_WORDS[relation or "in"][0]
            text += f" {words} " if slot else ""
            text += with_article(f"{one.dye('main')} {one.noun}")
            spans.append((len(text) - len(one.noun), len(text), slot, NOUN))
        yield Question(
            Wording(f"{text} {place.words[0]}", tuple(spans)),
            replace(page, hand="flat"),
            tuple((one.noun, str(one.dye("main"))) for one in ones),
            str(page.scenery.place),
            None if relation == "next to" else relation,
        )


@torch.no_grad()
def answers(
    model: Recogniser, images: Tensor, asked: Sequence[Question], *, batch: int = 50
) -> dict[str, list[bool]]:
    """Whether each picture (B, 3, h, w) in 0..1 shows what its question asks for.

    `things`: all of them are there. `place`: it is the one. `colours`: all things are there in their colours.
    `relation`: they are there and stand so, where that is asked of all.
    """
    right: dict[str, list[bool]] = {"things": [], "place": [], "colours": []}
    if all(question.relation for question in asked):
        right["relation"] = []
    nouns, labels = model.labels.nouns, model.labels
    for start in range(0, len(asked), batch):
        part = asked[start : start + batch]
        look = model.look(images[start : start + batch])
        present, places = model.present(look) > 0, model.wholes(look)["place"].argmax(-1)
        number = [[nouns.index(noun) for noun, _ in question.things] for question in part]
        columns = [torch.tensor(column) for column in zip(*number, strict=True)]
        there = torch.stack([present[torch.arange(len(part)), column] for column in columns]).all(0)
        coloured = there.clone()
        for k, column in enumerate(columns):
            colours = model.traits(look, column)["main"].argmax(-1)
            wanted = [labels.traits["main"].index(question.things[k][1]) for question in part]
            coloured &= colours == torch.tensor(wanted)
        right["things"] += there.tolist()
        right["place"] += [
            labels.wholes["place"][place] == q.place for place, q in zip(places, part, strict=True)
        ]
        right["colours"] += coloured.tolist()
        if "relation" in right:
            stands = model.relations(look, columns[0], columns[1]).argmax(-1)
            wanted = [labels.relations.index(str(question.relation)) for question in part]
            right["relation"] += (there & (stands == torch.tensor(wanted))).tolist()
    return right


def wilson(right: int, of: int, *, z: float = 1.96) -> tuple[float, float]:
    """The Wilson interval of a share of `of` trials, 95 % by default."""
    share, spread = right / of, z * z / of
    middle = (share + spread / 2) / (1 + spread)
    arm = z / (1 + spread) * math.sqrt(share * (1 - share) / of + spread / (4 * of))
    return middle - arm, middle + arm
