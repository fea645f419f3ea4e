"""Tuning: the gates and locks with which a prompt's pictures look like its concepts and like its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from perfusion_registry.build.framing import square
from perfusion_registry.build.images import load_image
from perfusion_registry.build.selection import Scores
from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.prompt import KeyLock, Prompt, Text, parse_prompt, unparse
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.perfusion.options import TrainOptions
from perfusion_registry.render.draw import render
from perfusion_registry.render.search import Trials, by_coordinate
from perfusion_registry.reporter import Reporter, Silent
from perfusion_registry.resolve import Project, find_images

if TYPE_CHECKING:
    from perfusion_registry.artifact import Artifact
    from perfusion_registry.base import Base
    from perfusion_registry.render.request import RenderRequest
    from perfusion_registry.reporter import Stage

LOCAL_BIASES = (0.45, 0.55, 0.65, 0.75)
GLOBAL_BIASES = (0.4, 0.5, 0.6)
TEMPERATURES = (0.1, 0.15)
"""What is tried where nothing else is asked for: the paper's ranges (Section 4.4), and below to what its
Figures 1 and 5 take for several concepts (Appendix H)."""


@dataclass(frozen=True)
class Setting:
    """What is chosen for one concept. residual: the strength of its residual, where it has one."""

    bias: float
    temperature: float
    key_lock: KeyLock
    residual: float | None = None


Settings = tuple[Setting, ...]
"""One for each concept, in the order of the composition."""


@dataclass(frozen=True)
class Space:
    """What may be chosen; None stands for the paper's ranges, for every lock that a concept can have, and for
    residuals as strong as they are: they are not the paper's, and every strength multiplies the choices."""

    biases: tuple[float, ...] | None = None
    temperatures: tuple[float, ...] | None = None
    locks: tuple[KeyLock, ...] | None = None
    residuals: tuple[float, ...] | None = None

    def of(self, artifact: Artifact, residual: float | None) -> list[Setting]:
        """The settings to try for a concept, local lock first. residual: its strength, None without one."""
        locks: list[KeyLock] = ["local", "global"]
        if TrainOptions.of(artifact.card.train).trained_keys:
            locks.append("none")
        strengths = (residual,) if residual is None else self.residuals or (residual,)
        return [
            Setting(bias, temperature, lock, strength)
            for lock in locks
            if self.locks is None or lock in self.locks
            for bias in self.biases or (GLOBAL_BIASES if lock == "global" else LOCAL_BIASES)
            for temperature in self.temperatures or TEMPERATURES
            for strength in strengths
        ]


@dataclass(frozen=True)
class Attempt:
    """Settings that were tried on the first `seeds` seeds. alike: image similarity by concept."""

    settings: Settings
    seeds: int
    scores: Scores
    alike: dict[str, float]


@dataclass(frozen=True)
class Tuned:
    """What came out: the settings before and after on all seeds, all that was tried, and pictures of both."""

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
    space: Space,
    *,
    images: int,
    reporter: Reporter | None = None,
) -> Tuned:
    """Choose the gate of each concept, drawing at most `images` pictures.

    references: the concepts' own pictures (N, 3, H, W) in 0..1, by name. Settings are judged on the request's
    seeds, the same for all, by the harmonic mean of image similarity (mean cosine to each concept's pictures,
    and the mean of that over the concepts) and text similarity (to the prompt without the concepts' words,
    divided by what pictures of the supercategories' words reach on the same seeds). The settings at the start
    and those that are chosen are compared on all seeds, and the start stays unless it is beaten.

    Raises PerfError for a prompt without concepts, a base without a CLIP model, a concept for which the space
    is empty, strengths where nothing has a residual, and a budget that is too small to compare anything.
    """
    if not composition.concepts:
        raise PerfError("the prompt calls no concept to tune", hint="call one with a star: teddy*")
    if base.scorer is None:
        raise PerfError(
            f"the base {base.description.repo} has no CLIP model to judge pictures with",
            hint="put one into its folder, or tune on a base that has one",
        )
    for concept in composition.concepts:
        if concept.gate is None:
            raise PerfError(
                f"{concept.name!r} has no gate to tune: it is of the method `{concept.method}`",
                hint="tune a prompt without it",
            )
    now = [concept.gate for concept in composition.concepts if concept.gate]
    if space.residuals and all(gate.residual is None for gate in now):
        raise PerfError(
            "there is no residual whose strength could be tried: none was learned for these concepts",
            where="--residual",
            hint="leave it out",
        )
    pairs_of = zip(composition.concepts, now, strict=True)
    spaces = [space.of(artifacts[concept.name], gate.residual) for concept, gate in pairs_of]
    for concept, choice in zip(composition.concepts, spaces, strict=True):
        if not choice:
            raise PerfError(
                f"{concept.name!r} can have none of the locks to try",
                where="--lock",
                hint="lock none is for concepts with trained keys",
            )
    seeds = len(request.seeds)
    if images < 3 * seeds:
        raise PerfError(
            f"{images} pictures are too few: the words alone, the gates as they are and one other choice "
            f"take {3 * seeds} on {seeds} seeds",
            where=f"--images {images}",
            hint="allow more, or use fewer seeds",
        )
    title = f"Trying gates, at most {images} pictures"
    with (reporter or Silent()).stage(title, images * request.steps) as stage:
        judge = _Judge(base, composition, artifacts, request, references, stage)
        start = tuple(Setting(c.bias, c.temperature, c.key_lock, c.residual) for c in now)
        before = judge.attempt(start, seeds)
        trials = Trials(lambda one, n: judge.attempt(one, n).scores.harmonic, judge.cost)
        # What leads on a few seeds may not lead on all; so much is kept to find out.
        budget = images - judge.drawn - (seeds - 1)
        best = by_coordinate(start, spaces, trials, seeds=seeds, budget=budget)
        after = judge.attempt(best, seeds)
        if after.scores.harmonic <= before.scores.harmonic:
            after = before
    pairs = zip(judge.pictures(start), judge.pictures(after.settings), strict=True)
    return Tuned(before, after, judge.attempts(), judge.drawn, tuple(pairs))


def configured(composition: Composition, settings: Settings) -> Composition:
    """The composition with these settings."""
    concepts = tuple(
        concept.with_options(**vars(setting))
        for concept, setting in zip(composition.concepts, settings, strict=True)
    )
    return composition.model_copy(update={"concepts": concepts})


def own_pictures(composition: Composition, project: Project, size: tuple[int, int]) -> dict[str, Tensor]:
    """The pictures (N, 3, height, width) that the composition's concepts were built from, by name.

    Raises PerfError for a concept that no recipe here is of, since nothing can be compared with it then.
    """
    found = {}
    for concept in composition.concepts:
        entry = project.manifest.concepts.get(concept.name)
        if entry is None or entry.recipe is None:
            raise PerfError(
                f"there are no pictures of {concept.name!r} here to compare with: the project has no recipe "
                "of it",
                where=str(project.manifest_path),
                hint="tune it where its recipe is, or set its gate by hand with `perf sweep`",
            )
        recipe, path = project.recipe(concept.name), project.recipe_path(concept.name)
        sources = find_images(path.parent, recipe.concept.images, recipe.concept.masks, where=str(path))
        found[concept.name] = torch.stack(
            [square(load_image(source.path).pixels, size) for source in sources]
        )
    return found


class _Judge:
    """Draws and scores settings seed by seed, each once."""

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
        prompt = parse_prompt(composition.prompt)
        without = " ".join(prompt.spoken(dict.fromkeys(prompt.names, " ")).split())
        self._text = self._scorer.text_features([without]).cpu()[0]
        plain = prompt.spoken({c.name: c.supercategory for c in composition.concepts})
        self._drawn: dict[Settings, list[tuple[Image.Image, Tensor]]] = {}
        self.drawn = 0
        words = Composition(prompt=unparse(Prompt((Text(plain),))), base=composition.base)
        self._words = [
            float(feature @ self._text) for _, feature in (self._draw(words, seed) for seed in request.seeds)
        ]

    def cost(self, settings: Settings, seeds: int) -> int:
        """How many pictures of the first `seeds` seeds are not drawn yet."""
        return max(0, seeds - len(self._drawn.get(settings, ())))

    def attempt(self, settings: Settings, seeds: int) -> Attempt:
        """Judge settings on the first `seeds` seeds, drawing what is not drawn yet."""
        done = self._drawn.setdefault(settings, [])
        for seed in self._request.seeds[len(done) : seeds]:
            done.append(self._draw(configured(self._composition, settings), seed))
        features = torch.stack([feature for _, feature in done[:seeds]])  # (seeds, f)
        alike = {name: float((features @ own.T).mean()) for name, own in self._own.items()}
        fit = float((features @ self._text).mean()) / max(sum(self._words[:seeds]) / seeds, 1e-3)
        return Attempt(settings, seeds, Scores(sum(alike.values()) / len(alike), fit), alike)

    def attempts(self) -> tuple[Attempt, ...]:
        """All settings as far as they were tried, those on most seeds first, and the best of these first."""
        told = [self.attempt(settings, len(done)) for settings, done in self._drawn.items() if done]
        return tuple(sorted(told, key=lambda one: (-one.seeds, -one.scores.harmonic)))

    def pictures(self, settings: Settings) -> Sequence[Image.Image]:
        """The pictures of settings that were tried on all seeds."""
        return [picture for picture, _ in self._drawn[settings]]

    def _draw(self, composition: Composition, seed: int) -> tuple[Image.Image, Tensor]:
        """One picture, and its CLIP features (f,)."""
        one = self._request.model_copy(update={"seeds": (seed,), "batch": 1})
        (rendered,) = render(self._base, composition, one, self._artifacts)
        self.drawn += 1
        self._stage.advance(one.steps, f"picture {self.drawn}")
        pixels = torch.from_numpy(np.array(rendered.image.convert("RGB"), dtype=np.float32) / 255)
        feature = self._scorer.image_features(pixels.permute(2, 0, 1)[None])[0].cpu()
        return rendered.image, feature
