"""Drawn worlds: what draws its own pictures also knows the truth of them, and can judge others by it.

Suites take their concepts from a world's cast, and a world brings metrics of its own. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.base import Base

Recall = Callable[[str, "Callable[[], Tensor]"], "Tensor"]
"""Gives a tensor by its key, and makes it where it is not known yet."""


@dataclass(frozen=True)
class Metric:
    """A metric.

    kind: a `rate` is 1 or 0 of a picture, and a share of many; a `share` is anything between of each; a
    `similarity` is no part of a whole. derived: of other metrics' means, and not of single pictures.
    """

    title: str
    meaning: str
    kind: Literal["similarity", "share", "rate"] = "rate"
    derived: bool = False


@dataclass(frozen=True)
class Subject:
    """Who a picture is of. supercategory: its plain word. cast: who of the world's cast; None for a concept
    that the world does not know."""

    supercategory: str
    cast: str | None


class NoJudgeError(PerfError):
    """A base has nothing that judges pictures of its world as it is here: one that is still being trained, or
    of another edition."""


class WorldJudge(Protocol):
    """What tells a world's metrics of pictures, in one process."""

    def scores(
        self,
        prompt: str,
        subjects: Sequence[Subject],
        images: Tensor,
        metrics: Collection[str],
        *,
        base: Callable[[], Base],
        recall: Recall,
    ) -> list[dict[str, float]]:
        """Those of `metrics` that can be told, of each picture.

        prompt: with supercategory words. subjects: whom it calls. images: (B, 3, h, w) in 0..1. base: gives
        the suite's, through whose autoencoder the world sees itself.
        """
        ...

    def knows(self, supercategory: str) -> bool:
        """Whether it can compare things of this kind."""
        ...

    def features(self, images: Tensor, supercategory: str) -> Tensor:
        """What the thing of a kind that it knows looks like in images (B, 3, h, w) in 0..1: (B, f) unit
        vectors, to compare individuals by."""
        ...


@runtime_checkable
class World(Protocol):
    """A drawn world. Its module imports torch only inside of functions.

    name: as errors call it. cast: everybody that a suite's concepts can be. metrics: what it can tell.
    """

    name: str
    cast: Collection[str]
    metrics: Mapping[str, Metric]

    def supercategory(self, one: str) -> str:
        """The plain word for one of the cast."""
        ...

    def identity(self, one: str) -> str:
        """Everything that decides how one of the cast is drawn."""
        ...

    def images(self, one: str) -> Tensor:
        """The pictures (N, 3, h, w) in 0..1 that one of the cast is learned from."""
        ...

    def judge_file(self, base: str) -> Path:
        """The file of weights that judges, of a base by its reference; raises NoJudgeError where there is
        none."""
        ...

    def judge(self, base: str) -> WorldJudge:
        """What judges, loaded."""
        ...


@runtime_checkable
class DrawnWorld(World, Protocol):
    """A world by whose pages the bounds of a base can be measured (`verdict.bounds`).

    things: the words for all that it draws. words: all words of its captions. kinds: of things, each by one
    word, so that pages of one kind do not show another.
    """

    things: Sequence[str]
    words: Sequence[str]
    kinds: Sequence[str]

    def sets(self, count: int, size: int) -> Iterator[tuple[str, Tensor]]:
        """So many sets of pictures (size, 3, h, w) in 0..1, each of one thing as people would take them, with
        its word; all kinds in their turn."""
        ...
