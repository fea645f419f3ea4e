"""The truth about drawn pages, and how far a recogniser's answers are from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from perfusion_registry.storybook.recogniser import EXTRAS, PLACES, TRAITS, Answers
from perfusion_registry.storybook.world import CATEGORIES, Page

UNTOLD = -1
"""Stands for a trait that is not there to be seen."""


@dataclass(frozen=True)
class Truth:
    """What pages show: present (B, c); traits by name (B, c), the number of the answer or `UNTOLD`; place
    (B,); extras (B, x)."""

    present: Tensor
    traits: dict[str, Tensor]
    place: Tensor
    extras: Tensor

    def __getitem__(self, rows: Tensor) -> Truth:
        """The truth about some of the pages. rows: their numbers."""
        traits = {name: known[rows] for name, known in self.traits.items()}
        return Truth(self.present[rows], traits, self.place[rows], self.extras[rows])

    @classmethod
    def of(cls, pages: Sequence[Page]) -> Truth:
        """The truth about pages."""
        present = torch.zeros(len(pages), len(CATEGORIES))
        traits = {name: torch.full((len(pages), len(CATEGORIES)), UNTOLD) for name in TRAITS}
        place = torch.tensor([PLACES.index(page.scene or "") for page in pages])
        extras = torch.zeros(len(pages), len(EXTRAS))
        for row, page in enumerate(pages):
            for one in page.subjects:
                kind = CATEGORIES.index(one.category)
                present[row, kind] = 1
                inside = page.relation == "in" and one is page.subjects[1]
                for name, answer in one.traits(open_lid=inside).items():
                    traits[name][row, kind] = TRAITS[name].index(answer)
                if one.accessory:
                    extras[row, EXTRAS.index(one.accessory)] = 1
                if one.reading:
                    extras[row, EXTRAS.index("reading")] = 1
            if page.style:
                extras[row, EXTRAS.index(page.style)] = 1
        return cls(present, traits, place, extras)


def recogniser_loss(answers: Answers, truth: Truth) -> Tensor:
    """Sum of the cross-entropies of all questions, every category and extra counting as one."""
    loss = functional.binary_cross_entropy_with_logits(answers.present, truth.present) * len(CATEGORIES)
    for name, logits in answers.traits.items():
        told = truth.traits[name] != UNTOLD
        if told.any():
            loss = loss + functional.cross_entropy(logits[told], truth.traits[name][told])
    loss = loss + functional.cross_entropy(answers.place, truth.place)
    return loss + functional.binary_cross_entropy_with_logits(answers.extras, truth.extras) * len(EXTRAS)
