"""A concept's pictures measured: between what its plain word reaches and what its own pictures would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perfusion_registry.methods.settings import Settings
from perfusion_registry.verdict.judges import PictureJudge
from perfusion_registry.verdict.subject import Trained

PROMPTS = 4
"""Drawn at most: one plain prompt and three places."""
SEEDS = (0, 1)
"""Of each prompt: eight pictures in all, whose share was within 0.03 of that of sixteen (`docs/log.md`, three
concepts)."""
_NOTICED = 0.1
"""By how much another strength must be better than the usual one to be taken, so that chance takes none: a
place that appears in one of eight pictures more is worth 0.05 to 0.07 (`docs/log.md`, eight concepts)."""


@dataclass(frozen=True)
class LikenessToOwn:
    """Mean cosine similarities to the concept's own pictures: of its drawn pictures, of the plain word's, and
    of these own pictures to each other (None where there is only one)."""

    drawn: float
    plain: float
    own: float | None

    @property
    def share(self) -> float:
        """Of the way from the plain word to the own pictures, what the concept goes."""
        whole = (1.0 if self.own is None else self.own) - self.plain
        return (self.drawn - self.plain) / whole if whole > 1e-3 else float(self.drawn > self.plain)


@dataclass(frozen=True, eq=False)
class Attempted:
    """A concept drawn with some options. obeyed: how far its places appear, as a share of how far they do
    with the plain word; None where no prompt asks for any. pictures: (P, S, 3, H, W) of P prompts."""

    settings: Settings
    likeness: LikenessToOwn
    obeyed: float | None
    pictures: Tensor

    @property
    def worth(self) -> float:
        """The harmonic mean of both, as `build.selection` chooses steps by."""
        alike, obeyed = max(self.likeness.share, 0.0), 1.0 if self.obeyed is None else max(self.obeyed, 0.0)
        return 2 * alike * obeyed / (alike + obeyed) if alike + obeyed > 0 else 0.0


def places_of(templates: Sequence[str]) -> tuple[str, ...]:
    """The prompts to draw: the first, which is plain, and from the rest those that are farthest apart."""
    if len(templates) <= PROMPTS:
        return tuple(templates)
    rest = templates[1:]
    return (templates[0], *(rest[k * len(rest) // (PROMPTS - 1)] for k in range(PROMPTS - 1)))


def measure(
    trained: Trained,
    own: Tensor,
    judge: PictureJudge | None,
    choices: Sequence[Settings],
    advance: Callable[[int], None],
) -> tuple[list[Attempted], Tensor]:
    """Draw the concept with each of `choices`, and its plain word, on the same seeds; and compare.

    own: its pictures (N, 3, H, W) in 0..1. Without a judge all is drawn and nothing measured: shares are 0.
    advance: told of pictures that are done. Returns what was measured, in the order of choices, and
    the plain word's pictures (P, S, 3, H, W).
    """
    templates = places_of(trained.train.validation_prompts)

    def drawn(settings: Settings | None) -> Tensor:
        rows = []
        for template in templates:
            prompt = trained.plain(template) if settings is None else trained.composed(template, settings)
            rows.append(trained.drawn(prompt, SEEDS))
            advance(len(SEEDS))
        return torch.stack(rows)

    plain = drawn(None)
    pictures = [drawn(settings) for settings in choices]
    if judge is None:
        nothing = LikenessToOwn(0.0, 0.0, None)
        unmeasured = zip(choices, pictures, strict=True)
        return [Attempted(settings, nothing, None, shown) for settings, shown in unmeasured], plain
    word = trained.word
    known = judge.features(own, word)  # (N, f)
    asked = [template for template in templates for _ in SEEDS]

    def told(shown: Tensor) -> tuple[float, float]:
        flat = shown.flatten(0, 1)
        alike = float((judge.features(flat, word) @ known.T).mean())
        obeyed = judge.obeyed(flat, asked, word)
        return alike, float(obeyed.mean())

    own_alike = None
    if len(known) > 1:
        each = known @ known.T
        own_alike = float((each.sum() - each.diagonal().sum()) / (len(known) * (len(known) - 1)))
    plain_alike, plain_obeyed = told(plain)
    measured = []
    for settings, shown in zip(choices, pictures, strict=True):
        alike, obeyed = told(shown)
        # What the plain word cannot, no concept need.
        places = obeyed / plain_obeyed if plain_obeyed > 1e-3 else None
        measured.append(Attempted(settings, LikenessToOwn(alike, plain_alike, own_alike), places, shown))
    return measured, plain


def best_of(measured: Sequence[Attempted]) -> Attempted:
    """The first, which is the usual, unless another is better by more than chance."""
    best = max(measured, key=lambda one: one.worth)
    return best if best.worth > measured[0].worth + _NOTICED else measured[0]
