"""Who compares a build's pictures: the drawn world that its base belongs to, else the base's CLIP model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from perfusion_registry.base.bounds import BaseBounds
from perfusion_registry.build.selection import spoken
from perfusion_registry.evaluate.metrics import world
from perfusion_registry.worlds import NoJudgeError, Subject, WorldJudge

if TYPE_CHECKING:
    from perfusion_registry.base import Base, Scorer


class PictureJudge(Protocol):
    """Tells how alike pictures of one thing are, and how far they show what their prompts ask for.

    called: what sentences call it.
    """

    called: str

    def features(self, images: Tensor, word: str) -> Tensor:
        """What the thing of the kind `word` looks like in pictures (B, 3, H, W) in 0..1: (B, f) unit
        vectors."""
        ...

    def obeyed(self, images: Tensor, templates: Sequence[str], word: str) -> Tensor:
        """How far each picture shows what its prompt asks for, (B,). templates: one for each picture, with
        `{}`."""
        ...

    def shows(self, images: Tensor, word: str) -> float | None:
        """The share of pictures (B, 3, H, W) that show a thing of the kind `word`; None where it cannot
        tell."""
        ...


def judge_of(base: Base, bounds: BaseBounds, word: str) -> PictureJudge | None:
    """The best that there is for things of the kind `word`; None for a base without any."""
    judge = None if bounds.world is None else _of_world(base, bounds.world)
    if judge is not None and judge.knows(word):
        return WorldsJudge(base, judge)
    return ClipJudge(base.scorer) if base.scorer is not None else None


def _of_world(base: Base, name: str) -> WorldJudge | None:
    """The judge of a base's world; None where the base has none yet."""
    try:
        return world(name).judge(_reference(base))
    except NoJudgeError:
        return None


def _reference(base: Base) -> str:
    """A base by its folder, as seen from anywhere; as it is called, where it is not read from one."""
    folder = getattr(base.description, "folder", None)
    return base.description.repo if folder is None else str(folder)


class WorldsJudge:
    """A drawn world's own judge: what it sees is true or false."""

    called = "the recogniser"

    def __init__(self, base: Base, judge: WorldJudge) -> None:
        self._base, self._judge = base, judge

    def features(self, images: Tensor, word: str) -> Tensor:
        """What the world's judge tells individuals by."""
        return self._judge.features(images, word)

    def obeyed(self, images: Tensor, templates: Sequence[str], word: str) -> Tensor:
        """1 or 0: the thing is there, and all that was asked beside it."""
        told = [
            min(self._scores(template.replace("{}", word), word, image[None])[0].values())
            for template, image in zip(templates, images, strict=True)
        ]
        return torch.tensor(told)

    def shows(self, images: Tensor, word: str) -> float | None:
        """Seen or not, in each picture."""
        told = self._scores(word, word, images, ("category",))
        return sum(row["category"] for row in told) / len(told)

    def _scores(
        self, prompt: str, word: str, images: Tensor, metrics: Sequence[str] = ("category", "obeyed")
    ) -> list[dict[str, float]]:
        return self._judge.scores(
            prompt,
            [Subject(word, None)],
            images,
            metrics,
            base=lambda: self._base,
            recall=lambda _, make: make(),
        )


class ClipJudge:
    """The CLIP model beside the base."""

    called = "its CLIP model"

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def features(self, images: Tensor, word: str) -> Tensor:
        """Of the whole picture."""
        return self._scorer.image_features(images).cpu()

    def obeyed(self, images: Tensor, templates: Sequence[str], word: str) -> Tensor:
        """Similarity to the prompt without the concept's word."""
        texts = [spoken(template) for template in templates]
        features = self._scorer.image_features(images).cpu()
        return (features * self._scorer.text_features(texts).cpu()).sum(-1)

    def shows(self, images: Tensor, word: str) -> float | None:
        """Not told: a similarity to a word has no scale of its own."""
        return None
