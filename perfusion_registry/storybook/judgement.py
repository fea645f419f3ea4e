"""What a picture of the drawn world shows, against what its prompt asks for: exact, by the recogniser.

Storybook is drawn, so there is a truth about every page, and a small network that learned it from drawn pages
alone tells it of any picture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from perfusion_registry.base import Base
from perfusion_registry.storybook.reading import Asked
from perfusion_registry.storybook.recogniser import EXTRAS, LOOKS, PLACES, Findings, Recogniser
from perfusion_registry.storybook.world import CATEGORIES, SCENES, Individual, Page, draw_page, paint

LOOK_ALIKES = 20
PORTRAITS = 4
"""Pages that each look-alike is known by."""
OWN_LOOK = 0.25
"""The share of an individual's pages on which the recogniser must name a look, for it to be its own."""
SURE = 0.5
"""Above which probability the recogniser counts as having seen something."""


@dataclass(frozen=True)
class Portrayed:
    """Who a picture is of.

    looks: those that the recogniser names where the individual is drawn by hand (a white teapot with broad
    blue stripes may count as blue); none for a concept that the world does not know.
    """

    category: str
    looks: frozenset[str] = frozenset()


def shown(found: Findings, asked: Asked, subjects: Sequence[Portrayed]) -> list[dict[str, float]]:
    """What each picture shows of what was asked, 1 or 0 by name; what was not asked for has no entry.

    category: the (first) subject is there. look: it has its own main colour; where a material is asked, that
    is `material`'s business alone. scene, style: as named. accessory: all that were
    named, reading included. second: every other thing that the prompt names. obeyed: all of what was asked
    beside the subject. both: of two subjects, each is there and has its own main colour or the asked
    material.
    """
    return [_shown(found, row, asked, subjects) for row in range(len(found.present))]


def _shown(found: Findings, row: int, asked: Asked, subjects: Sequence[Portrayed]) -> dict[str, float]:
    told: dict[str, bool] = {}
    first = subjects[0]
    if first.category in CATEGORIES:
        told["category"] = _present(found, row, first.category)
        if first.looks and first.category not in asked.materials:
            told["look"] = _look(found, row, first.category) in first.looks
    if asked.scene is not None:
        told["scene"] = PLACES[int(found.place[row].argmax())] == asked.scene
    if asked.accessories:
        seen = [bool(found.extras[row, EXTRAS.index(thing)] > SURE) for thing in asked.accessories]
        told["accessory"] = all(seen)
    if asked.watercolor:
        told["style"] = bool(found.extras[row, EXTRAS.index("watercolor")] > SURE)
    if asked.materials:
        told["material"] = all(_look(found, row, kind) == made for kind, made in asked.materials.items())
    others = set(asked.categories) - {subject.category for subject in subjects}
    if others:
        told["second"] = all(_present(found, row, kind) for kind in others)
    obeyed = [told[name] for name in ("scene", "accessory", "style", "material", "second") if name in told]
    if obeyed:
        told["obeyed"] = all(obeyed)
    if len(subjects) > 1:
        told["both"] = all(_recognised(found, row, asked, subject) for subject in subjects)
    return {name: float(value) for name, value in told.items()}


def _present(found: Findings, row: int, category: str) -> bool:
    return bool(found.present[row, CATEGORIES.index(category)] > SURE)


def _look(found: Findings, row: int, category: str) -> str:
    return LOOKS[int(found.look[row, CATEGORIES.index(category)].argmax())]


def _recognised(found: Findings, row: int, asked: Asked, subject: Portrayed) -> bool:
    if not _present(found, row, subject.category):
        return False
    seen, made = _look(found, row, subject.category), asked.materials.get(subject.category)
    return seen == made if made is not None else not subject.looks or seen in subject.looks


def own_looks(recogniser: Recogniser, one: Individual) -> frozenset[str]:
    """The looks that the recogniser names on pages which show the individual for certain."""
    rng = Random(f"own looks {one}")
    pages = [Page((one,), None, scene, None, rng.getrandbits(32)) for scene in (None, *SCENES) for _ in "123"]
    found = recogniser.recognise(paint([draw_page(page) for page in pages]).images)
    named = Counter(_look(found, row, one.category) for row in range(len(pages)))
    return frozenset(look for look, count in named.items() if count >= OWN_LOOK * len(pages))


def look_alikes(one: Individual) -> list[Individual]:
    """The individual and 19 others of its category, none of special material and none wearing anything.

    None is its twin, of the same colours and pattern in all parts: tint and proportions are all that such a
    one differs by.
    """
    rng = Random(f"look-alikes {one.category}")
    others: list[Individual] = []
    while len(others) < LOOK_ALIKES - 1:
        other = Individual.sample(rng, one.category)
        if other.material is not None or other.accessory is not None or other.reading:
            continue
        if other.traits() != one.traits():
            others.append(other)
    return [one, *others]


def portraits(
    recogniser: Recogniser,
    base: Base,
    category: str,
    candidates: Sequence[tuple[Individual, ...]],
    relation: str | None,
    scene: str | None,
    style: str | None,
) -> Tensor:
    """Features (candidates, portraits, f) of everybody of a category, drawn by hand in the scene that a
    prompt asks for, as the base's autoencoder gives them back.

    candidates: each alone, or with the company that the prompt asks for, in that relation: what hides or
    blurs the picture's individual does the same to theirs.
    """
    rng = Random(f"portraits {scene} {style}")
    seeds = [rng.getrandbits(32) for _ in range(PORTRAITS)]
    features = []
    for shown in candidates:
        pages = [draw_page(Page(shown, relation, scene, style, seed)) for seed in seeds]
        images = paint(pages, [style] * len(seeds)).images
        features.append(recogniser.describe(base.reconstructed(images), category))
    return torch.stack(features)


def identified(features: Tensor, portraits: Tensor) -> Tensor:
    """Whether each picture looks most like the first candidate; chance is one in as many as there are.

    features: (B, f) of the pictures. portraits: (c, r, f). Returns (B,) bool.
    """
    return torch.einsum("bf,crf->bcr", features, portraits).mean(-1).argmax(1) == 0
