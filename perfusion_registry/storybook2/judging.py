"""The second Storybook as a drawn world: its cast, what can be told of a picture of it, and what tells it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.artifact import digest_of
from perfusion_registry.base import describe_base
from perfusion_registry.base.bounds import BaseBounds
from perfusion_registry.base.digest import file_digest
from perfusion_registry.base.embedded import NotInstalledError
from perfusion_registry.base.reference import EMBEDDED
from perfusion_registry.worlds import Metric, NoJudgeError, Recall, Subject, WorldJudge

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.base import Base
    from perfusion_registry.storybook2.reading import Asked
    from perfusion_registry.storybook2.recogniser import Recogniser

WORLD_NAME = "storybook2"
"""What bases call this world in their bounds file."""
PORTRAITS_EPOCH = 1
"""Raised whenever a change to the package changes the portraits of look-alikes."""


class Storybook:
    """The world; see `worlds.DrawnWorld`."""

    name = "Storybook"
    metrics: Mapping[str, Metric] = {
        "category": Metric("the thing appears", "The recogniser sees a thing of the concept's kind."),
        "look": Metric("its own main colour", "The recogniser names the colour that the individual has."),
        "scene": Metric(
            "the scene appears",
            "The recogniser names the place, the light and the weather that the prompt asks for.",
        ),
        "accessory": Metric("the accessory appears", "All that things are to wear is there."),
        "colour": Metric(
            "the colours appear", "Every thing has the colours and the pattern that the prompt gives it."
        ),
        "second": Metric("the second thing appears", "Every other thing that the prompt names is there."),
        "relation": Metric(
            "things stand as asked",
            "Both are there, and the recogniser calls how they stand as the prompt does.",
        ),
        "count": Metric("so many appear", "There are as many things as the prompt says."),
        "style": Metric("the style appears", "It is in the hand that is asked for, such as watercolour."),
        "obeyed": Metric(
            "all that was asked appears",
            "Scene, accessory, colours, style, other things, how they stand and how many, all at once.",
        ),
        "identified": Metric(
            "told from 20 look-alikes",
            "Among 20 individuals of its kind, drawn by hand in the same scene and given back by the base's "
            "autoencoder, the picture looks most like the concept. Chance: 5\N{NO-BREAK SPACE}%. Of two "
            "concepts, each must be told from its own look-alikes, in the other's company.",
        ),
        "both": Metric(
            "both individuals recognised",
            "Each of the two concepts is there, in its own main colour or the one that was asked for.",
        ),
    }  # fmt: skip

    @cached_property
    def cast(self) -> Collection[str]:
        """Everybody by name."""
        from perfusion_registry.storybook2.cast import CAST

        return CAST.keys()

    def supercategory(self, one: str) -> str:
        """Its noun."""
        from perfusion_registry.storybook2.cast import CAST

        return CAST[one].noun

    def identity(self, one: str) -> str:
        """Its make, colours and pattern."""
        from perfusion_registry.storybook2.cast import CAST

        return repr(CAST[one])

    def images(self, one: str) -> Tensor:
        """Its reference pictures."""
        from perfusion_registry.storybook2.cast import CAST, reference_images

        return reference_images(CAST[one])

    def judge_file(self, base: str) -> Path:
        """The recogniser's: the base's own, else that of the embedded base, where it is of this world."""
        description = describe_base(base)
        if (own := description.folder / "recogniser.safetensors").is_file():
            return own
        with suppress(NotInstalledError):
            embedded = describe_base(EMBEDDED)
            path = embedded.folder / "recogniser.safetensors"
            if BaseBounds.of(embedded).world == WORLD_NAME and path.is_file():
                return path
        raise NoJudgeError(
            "the base has no recogniser, by which pictures of its world are judged",
            where=str(own),
            hint="export it once its recogniser is trained: `storybook2.training WORK stage recogniser`",
        )

    def judge(self, base: str) -> WorldJudge:
        """The recogniser."""
        from perfusion_registry.storybook2.labels import LABELS
        from perfusion_registry.storybook2.recogniser import Recogniser

        file = self.judge_file(base)
        return Judge(Recogniser.load(file, LABELS), file_digest(file))

    @cached_property
    def things(self) -> Sequence[str]:
        """The words for all that it draws, the commonest of each noun first."""
        from perfusion_registry.storybook2.vocabulary import things

        return things()

    @cached_property
    def words(self) -> Sequence[str]:
        """All words of its captions."""
        from perfusion_registry.storybook2.vocabulary import caption_words

        return caption_words()

    @cached_property
    def kinds(self) -> Sequence[str]:
        """Its nouns, each by one word."""
        from perfusion_registry.storybook2.grammar import NOUNS

        return NOUNS

    def sets(self, count: int, size: int) -> Iterator[tuple[str, Tensor]]:
        """Everyday pictures of individuals by chance, which wear nothing, each noun in its turn."""
        from random import Random

        from perfusion_registry.storybook2.cast import reference_images
        from perfusion_registry.storybook2.world.drawing import makes
        from perfusion_registry.storybook2.world.individual import sample_individual

        rng = Random("bounds")
        for number in range(count):
            noun = self.kinds[number % len(self.kinds)]
            one = sample_individual(rng, rng.choice(makes()[noun]), dressed=0.0)
            yield noun, reference_images(one, size)


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
        from perfusion_registry.storybook2.judgement import Portrayed, Recognised, shown
        from perfusion_registry.storybook2.reading import asked
        from perfusion_registry.storybook2.vocabulary import noun_of

        question = asked(prompt)
        scores: list[dict[str, float]] = [{} for _ in images]
        if set(metrics) - {"identified"}:
            seen = Recognised(self._recogniser, images)
            portrayed = [Portrayed(noun_of(one.supercategory), self._own_looks(one.cast)) for one in subjects]
            for told, row in zip(scores, shown(seen, question, portrayed), strict=True):
                told.update(row)
        if "identified" in metrics and _comparable(question, subjects):
            each = self._identified(subjects, question, images, base(), recall)
            for told, value in zip(scores, each.float().tolist(), strict=True):
                told["identified"] = value
        return [{name: value for name, value in told.items() if name in metrics} for told in scores]

    def knows(self, supercategory: str) -> bool:
        """Whether it is a word for one of the world's nouns, in capitals or not."""
        from perfusion_registry.storybook2.vocabulary import noun_of

        return noun_of(supercategory) is not None

    def features(self, images: Tensor, supercategory: str) -> Tensor:
        """What the recogniser tells individuals of a noun by."""
        from perfusion_registry.storybook2.vocabulary import noun_of

        noun = noun_of(supercategory)
        assert noun is not None  # only what it knows is asked
        return self._recogniser.describe(images, noun)

    def _own_looks(self, one: str | None) -> frozenset[str]:
        from perfusion_registry.storybook2.cast import CAST
        from perfusion_registry.storybook2.judgement import own_looks

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

        from perfusion_registry.storybook2.cast import CAST
        from perfusion_registry.storybook2.judgement import identified, look_alikes, portraits

        by_noun = {CAST[one.cast].noun: CAST[one.cast] for one in subjects if one.cast is not None}
        cast = [by_noun[noun] for noun in question.nouns]  # as the prompt has them
        relation = question.relation if len(cast) > 1 else None
        setting = [question.place, question.light, question.weather, question.hand]
        judges = [self._digest, base.description.digest, PORTRAITS_EPOCH]
        each = []
        for number, individual in enumerate(cast):
            candidates = [(*cast[:number], other, *cast[number + 1 :]) for other in look_alikes(individual)]
            known = recall(
                digest_of(["portraits", judges, repr(cast), number, relation, setting]),
                lambda: portraits(
                    self._recogniser,
                    base,
                    individual.noun,  # noqa: B023 (called at once)
                    candidates,  # noqa: B023
                    question,
                    relation,
                ),
            )
            each.append(identified(self._recogniser.describe(images, individual.noun), known))
        return torch.stack(each).all(0)


def _comparable(question: Asked, subjects: Sequence[Subject]) -> bool:
    """Whether there are portraits to compare with: whoever wears something, is to be of another colour or to
    be several, or has other company, has none; nor has one of two of the same noun, and whoever is called by
    a word for something else."""
    from perfusion_registry.storybook2.cast import CAST
    from perfusion_registry.storybook2.vocabulary import noun_of

    own = [(noun_of(one.supercategory), one.cast) for one in subjects]
    nouns = {noun for noun, cast in own if cast is not None and noun == CAST[cast].noun}
    if len(nouns) < len(subjects) or set(question.nouns) != nouns:
        return False
    plain = (thing.colour or thing.pattern or thing.worn or thing.parts for thing in question.things)
    return not any(plain) and not any((thing.count or 1) > 1 for thing in question.things)


WORLD = Storybook()
