"""Storybook as a drawn world: its cast, what can be told of a picture of it, and what tells it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.artifact import digest_of
from perfusion_registry.base import describe_base
from perfusion_registry.base.digest import file_digest
from perfusion_registry.worlds import Metric, NoJudgeError, Recall, Subject, WorldJudge

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.base import Base
    from perfusion_registry.storybook.reading import Asked
    from perfusion_registry.storybook.recogniser import Recogniser

PORTRAITS_EPOCH = 2
"""Raised whenever a change to the package changes the portraits of look-alikes."""


class Storybook:
    """The world; see `worlds.DrawnWorld`."""

    name = "Storybook"
    metrics: Mapping[str, Metric] = {
        "category": Metric("the thing appears", "The recogniser sees a thing of the concept's kind."),
        "look": Metric("its own main colour", "The recogniser names the colour that the individual has."),
        "scene": Metric("the scene appears", "The recogniser names the place that the prompt asks for."),
        "accessory": Metric(
            "the accessory or activity appears", "All that the concept is to wear or to do is there."
        ),
        "material": Metric("the material appears", "It is made of what the prompt asks for."),
        "second": Metric("the second thing appears", "Every other thing that the prompt names is there."),
        "style": Metric("the style appears", "It is a watercolour where one is asked for."),
        "obeyed": Metric(
            "all that was asked appears", "Scene, accessory, material, style and other things, all at once."
        ),
        "identified": Metric(
            "told from 20 look-alikes",
            "Among 20 individuals of its kind, drawn by hand in the same scene and given back by the base's "
            "autoencoder, the picture looks most like the concept. Chance: 5\N{NO-BREAK SPACE}%. Of two "
            "concepts, each must be told from its own look-alikes, in the other's company.",
        ),
        "both": Metric(
            "both individuals recognised",
            "Each of the two concepts is there, in its own main colour or the material that was asked for.",
        ),
    }

    @cached_property
    def cast(self) -> Collection[str]:
        """Everybody by name."""
        from perfusion_registry.storybook.cast import CAST

        return CAST.keys()

    def supercategory(self, one: str) -> str:
        """Its category."""
        from perfusion_registry.storybook.cast import CAST

        return CAST[one].category

    def identity(self, one: str) -> str:
        """Its parts, colours and proportions."""
        from perfusion_registry.storybook.cast import CAST

        return repr(CAST[one])

    def images(self, one: str) -> Tensor:
        """Its reference images."""
        import torch

        from perfusion_registry.storybook.cast import CAST, reference_images

        return torch.stack(list(reference_images(CAST[one])))

    def judge_file(self, base: str) -> Path:
        """The recogniser's: the base's own, else Storybook's."""
        for reference in (base, "storybook"):
            path = describe_base(reference).folder / "recogniser.safetensors"
            if path.is_file():
                return path
        raise NoJudgeError("the recogniser of the drawn world is not in this installation", where=str(path))

    def judge(self, base: str) -> WorldJudge:
        """The recogniser."""
        from perfusion_registry.storybook.recogniser import Recogniser

        file = self.judge_file(base)
        return Judge(Recogniser.load(file), file_digest(file))

    @cached_property
    def things(self) -> Sequence[str]:
        """Its categories."""
        from perfusion_registry.storybook.world import CATEGORIES

        return CATEGORIES

    @cached_property
    def kinds(self) -> Sequence[str]:
        """The same."""
        return self.things

    @cached_property
    def words(self) -> Sequence[str]:
        """All words of its captions."""
        from perfusion_registry.storybook.captions import caption_words

        return caption_words()

    def sets(self, count: int, size: int) -> Iterator[tuple[str, Tensor]]:
        """Pictures of individuals that wear nothing and are made of nothing special."""
        from random import Random

        from perfusion_registry.storybook.cast import reference_images
        from perfusion_registry.storybook.world import Individual

        rng = Random("bounds")
        made = 0
        while made < count:
            one = Individual.sample(rng, self.kinds[made % len(self.kinds)])
            if one.material is None and one.accessory is None and not one.reading:
                yield one.category, reference_images(one, size)
                made += 1


class Judge:
    """The recogniser, and portraits by hand; see `worlds.WorldJudge`."""

    def __init__(self, recogniser: Recogniser, digest: str) -> None:
        self._recogniser, self._digest = recogniser, digest
        self._looks: dict[str, frozenset[str]] = {}

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
        """What the recogniser tells, and whether it tells the pictures from those of look-alikes."""
        from perfusion_registry.storybook.judgement import Portrayed, shown
        from perfusion_registry.storybook.reading import asked

        question = asked(prompt)
        scores: list[dict[str, float]] = [{} for _ in images]
        if set(metrics) - {"identified"}:
            found = self._recogniser.recognise(images)
            portrayed = [Portrayed(one.supercategory.lower(), self._own_looks(one.cast)) for one in subjects]
            for told, row in zip(scores, shown(found, question, portrayed), strict=True):
                told.update(row)
        if "identified" in metrics and _comparable(question, subjects):
            each = self._identified(subjects, question, images, base(), recall)
            for told, value in zip(scores, each.float().tolist(), strict=True):
                told["identified"] = value
        return [{name: value for name, value in told.items() if name in metrics} for told in scores]

    def knows(self, supercategory: str) -> bool:
        """Whether it is one of the world's categories, in capitals or not."""
        from perfusion_registry.storybook.world import CATEGORIES

        return supercategory.lower() in CATEGORIES

    def features(self, images: Tensor, supercategory: str) -> Tensor:
        """What the recogniser tells individuals of a category by."""
        return self._recogniser.describe(images, supercategory.lower())

    def _own_looks(self, one: str | None) -> frozenset[str]:
        from perfusion_registry.storybook.cast import CAST
        from perfusion_registry.storybook.judgement import own_looks

        if one is None:
            return frozenset()
        if one not in self._looks:
            self._looks[one] = own_looks(self._recogniser, CAST[one])
        return self._looks[one]

    def _identified(
        self, subjects: Sequence[Subject], question: Asked, images: Tensor, base: Base, recall: Recall
    ) -> Tensor:
        """Whether all subjects are told from their look-alikes, in each other's company; (B,) bool."""
        import torch

        from perfusion_registry.storybook.cast import CAST
        from perfusion_registry.storybook.judgement import identified, look_alikes, portraits

        cast = [CAST[one.cast] for one in subjects if one.cast is not None]
        style = "watercolor" if question.watercolor else None
        relation = question.relation if len(cast) > 1 else None
        each = []
        for number, individual in enumerate(cast):
            company = [repr(cast), number, question.relation] if len(cast) > 1 else repr(individual)
            candidates = [(*cast[:number], other, *cast[number + 1 :]) for other in look_alikes(individual)]
            judges = [self._digest, base.description.digest, PORTRAITS_EPOCH]
            known = recall(
                digest_of(["portraits", judges, company, question.scene, style]),
                lambda: portraits(
                    self._recogniser,
                    base,
                    individual.category,  # noqa: B023 (called at once)
                    candidates,  # noqa: B023
                    relation,
                    question.scene,
                    style,
                ),
            )
            each.append(identified(self._recogniser.describe(images, individual.category), known))
        return torch.stack(each).all(0)


def _comparable(question: Asked, subjects: Sequence[Subject]) -> bool:
    """Whether there are portraits to compare with: whoever wears something, is made of something else or has
    other company has none."""
    if question.materials or question.accessories or any(one.cast is None for one in subjects):
        return False
    return list(question.categories) == [one.supercategory.lower() for one in subjects]


WORLD = Storybook()
