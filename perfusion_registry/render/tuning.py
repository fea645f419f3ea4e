"""Tuning: the options with which a prompt's pictures look like its concepts and like its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from perfusion_registry.build.framing import square
from perfusion_registry.build.images import load_image, open_picture
from perfusion_registry.build.selection import Scores
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.composition import ComposedConcept, Composition
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.settings import Value
from perfusion_registry.methods.table import find_method
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.render.draw import render
from perfusion_registry.render.search import Trials, by_coordinate, check_room
from perfusion_registry.reporter import Reporter, Silent
from perfusion_registry.resolve import ProjectFolder, find_images

if TYPE_CHECKING:
    from perfusion_registry.artifact import Artifact
    from perfusion_registry.base import Base
    from perfusion_registry.render.request import RenderRequest
    from perfusion_registry.reporter import Stage

MOST_LOST = 0.1
"""Share of its image or text similarity that a choice may lose, at most."""
_LOST = 10.0  # what sets choices that lose more behind all others

Options = tuple[FileModel, ...]
"""How each concept is drawn, by its method's options, in the order of the composition."""

Choices = Mapping[str, Sequence[Value]]
"""What may be chosen of a setting, by its field; its method's own ranges where it is left out."""


@dataclass(frozen=True)
class Attempt:
    """Options that were tried on the first `seeds` seeds. alike: image similarity by concept."""

    options: Options
    seeds: int
    scores: Scores
    alike: dict[str, float]


@dataclass(frozen=True)
class Tuned:
    """What came out: the options before and after on all seeds, all that was tried, and pictures of both."""

    before: Attempt
    after: Attempt
    attempts: tuple[Attempt, ...]
    drawn: int
    pictures: tuple[tuple[Image.Image, Image.Image], ...]


def tune(
    base: Base,
    composition: Composition,
    artifacts: Mapping[str, Artifact],
    request: RenderRequest,
    references: Mapping[str, Tensor],
    choices: Choices,
    *,
    images: int,
    most_lost: float = MOST_LOST,
    reporter: Reporter | None = None,
) -> Tuned:
    """Choose the options of each concept, drawing at most `images` pictures.

    references: the concepts' own pictures (N, 3, H, W) in 0..1, by name. Options are judged on the request's
    seeds, the same for all, by the harmonic mean of image similarity (mean cosine to each concept's pictures,
    and the mean of that over the concepts) and text similarity (to the prompt without the concepts' words,
    divided by what pictures of the supercategories' words reach on the same seeds). What loses more than the
    share `most_lost` of either is never chosen, so that no concept is bought with the prompt. The options at
    the start and those that are chosen are compared on all seeds, and the start stays unless it is beaten.

    Raises PerfError for a prompt without concepts, a base without a CLIP model, a concept whose method leaves
    nothing to choose, choices of what no concept has, and a budget that is too small to compare anything.
    """
    if not composition.concepts:
        raise PerfError("the prompt calls no concept to tune", hint="call one with a star: teddy*")
    if base.scorer is None:
        raise PerfError(
            f"the base {base.description.repo} has no CLIP model to judge pictures with",
            hint="name one as `scorer` under [base] in perfusion.toml",
        )
    for field in choices:
        if not any(find_method(one.method).has_setting(one.render, field) for one in composition.concepts):
            raise PerfError(
                f"none of these concepts has a {field} that could be tried",
                where=f"--{field.removeprefix('key_')}",
                hint="leave it out",
            )
    spaces = [_space(concept, artifacts[concept.name], choices) for concept in composition.concepts]
    seeds = len(request.seeds)
    check_room(images, seeds)
    title = f"Trying options, at most {images} pictures"
    with (reporter or Silent()).stage(title, images * request.steps) as stage:
        judge = _Judge(base, composition, artifacts, request, references, stage)
        start = tuple(concept.render for concept in composition.concepts)
        before = judge.attempt(start, seeds)

        def value(candidate: Options, n: int) -> float:
            scores = judge.attempt(candidate, n).scores
            kept = _keeps(scores, judge.attempt(start, n).scores, most_lost)
            return scores.harmonic if kept else scores.harmonic - _LOST

        trials = Trials(value, judge.cost)
        # What leads on a few seeds may not lead on all; so much is kept to find out.
        budget = images - judge.drawn - (seeds - 1)
        best = by_coordinate(start, spaces, trials, seeds=seeds, budget=budget)
        after = judge.attempt(best, seeds)
        better = after.scores.harmonic > before.scores.harmonic
        if not (better and _keeps(after.scores, before.scores, most_lost)):
            after = before
    pairs = zip(judge.pictures(start), judge.pictures(after.options), strict=True)
    return Tuned(before, after, judge.attempts(), judge.drawn, tuple(pairs))


def _keeps(scores: Scores, before: Scores, most_lost: float) -> bool:
    """Whether neither similarity has lost more than that share of what it was."""
    pairs = ((scores.image, before.image), (scores.text, before.text))
    return all(now >= was - most_lost * abs(was) for now, was in pairs)


def _space(concept: ComposedConcept, artifact: Artifact, choices: Choices) -> list[FileModel]:
    """What may be chosen for a concept; raises PerfError where that is nothing, or cannot be."""
    method = find_method(concept.method)
    for field, values in choices.items():  # two methods may give one name another range
        for value in values:
            method.applicable({field: value}, concept.name)
    space = method.search_space(concept.name, artifact.card.train, concept.render, choices)
    if not space:
        raise PerfError(
            f"{concept.name!r} has nothing to tune: it is of the method `{concept.method}`",
            hint="tune a prompt without it",
        )
    return space


def configured(composition: Composition, options: Options) -> Composition:
    """The composition with these options."""
    concepts = tuple(
        concept.model_copy(update={"render": render})
        for concept, render in zip(composition.concepts, options, strict=True)
    )
    return composition.model_copy(update={"concepts": concepts})


def own_pictures(
    composition: Composition, project: ProjectFolder, size: tuple[int, int]
) -> dict[str, Tensor]:
    """The pictures (N, 3, height, width) that the composition's concepts were built from, by name.

    Raises PerfError for a concept that no recipe here is of, since nothing can be compared with it then.
    """
    pictures = {}
    for concept in composition.concepts:
        entry = project.manifest.concepts.get(concept.name)
        if entry is None or entry.recipe is None:
            raise PerfError(
                f"there are no pictures of {concept.name!r} here to compare with: the project has no recipe "
                "of it",
                where=str(project.manifest_path),
                hint="tune it where its recipe is, or set its options by hand with `perf sweep`",
            )
        recipe, path = project.recipe(concept.name), project.recipe_path(concept.name)
        given = recipe.concept
        sources = find_images(path.parent, given.images, given.masks, where=str(path), opened=open_picture)
        pictures[concept.name] = torch.stack(
            [square(load_image(source.path).pixels, size) for source in sources]
        )
    return pictures


class _Judge:
    """Draws and scores options seed by seed, each once."""

    def __init__(
        self,
        base: Base,
        composition: Composition,
        artifacts: Mapping[str, Artifact],
        request: RenderRequest,
        references: Mapping[str, Tensor],
        stage: Stage,
    ) -> None:
        assert base.scorer is not None
        self._base, self._composition, self._artifacts = base, composition, artifacts
        self._request, self._stage = request, stage
        self._scorer = base.scorer
        self._own = {
            name: self._scorer.image_features(pictures).cpu() for name, pictures in references.items()
        }
        prompt = composition.parsed
        without = " ".join(prompt.spoken(dict.fromkeys(prompt.names, " ")).split())
        self._text = self._scorer.text_features([without]).cpu()[0]
        self._drawn: dict[Options, list[tuple[Image.Image, Tensor]]] = {}
        self.drawn = 0
        words = compose(prompt.with_words(composition.words), {}, base)
        self._words = [
            float(feature @ self._text) for _, feature in (self._draw(words, seed) for seed in request.seeds)
        ]

    def cost(self, options: Options, seeds: int) -> int:
        """How many pictures of the first `seeds` seeds are not drawn yet."""
        return max(0, seeds - len(self._drawn.get(options, ())))

    def attempt(self, options: Options, seeds: int) -> Attempt:
        """Judge options on the first `seeds` seeds, drawing what is not drawn yet."""
        done = self._drawn.setdefault(options, [])
        for seed in self._request.seeds[len(done) : seeds]:
            done.append(self._draw(configured(self._composition, options), seed))
        features = torch.stack([feature for _, feature in done[:seeds]])  # (seeds, f)
        alike = {name: float((features @ own.T).mean()) for name, own in self._own.items()}
        fit = float((features @ self._text).mean()) / max(sum(self._words[:seeds]) / seeds, 1e-3)
        return Attempt(options, seeds, Scores(sum(alike.values()) / len(alike), fit), alike)

    def attempts(self) -> tuple[Attempt, ...]:
        """All options as far as they were tried, those on most seeds first, and the best of these first."""
        made = [self.attempt(options, len(done)) for options, done in self._drawn.items() if done]
        return tuple(sorted(made, key=lambda attempt: (-attempt.seeds, -attempt.scores.harmonic)))

    def pictures(self, options: Options) -> Sequence[Image.Image]:
        """The pictures of options that were tried on all seeds."""
        return [picture for picture, _ in self._drawn[options]]

    def _draw(self, composition: Composition, seed: int) -> tuple[Image.Image, Tensor]:
        """One picture, and its CLIP features (f,)."""
        request = self._request.model_copy(update={"seeds": (seed,), "batch": 1})
        (rendered,) = render(self._base, composition, request, self._artifacts)
        self.drawn += 1
        self._stage.advance(request.steps, f"picture {self.drawn}")
        pixels = torch.from_numpy(np.array(rendered.image.convert("RGB"), dtype=np.float32) / 255)
        feature = self._scorer.image_features(pixels.permute(2, 0, 1)[None])[0].cpu()
        return rendered.image, feature
