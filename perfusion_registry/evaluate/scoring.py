"""Score orders: the metrics of single pictures, into the cache (Section 5, and those of the drawn world)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfusion_registry.artifact import digest_of
from perfusion_registry.evaluate.cache import SCORING_EPOCH
from perfusion_registry.evaluate.suite import MetricName

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.evaluate.cache import Cache
    from perfusion_registry.evaluate.worker import Worker

EXACT: frozenset[MetricName] = frozenset(
    ["category", "look", "scene", "accessory", "material", "second", "style", "obeyed", "both"]
)
"""What the recogniser tells."""


@dataclass(frozen=True)
class Judged:
    """A concept that pictures are judged by. images: the bytes of its own ones."""

    name: str
    supercategory: str
    images: tuple[bytes, ...]
    cast: str | None

    @property
    def digest(self) -> str:
        """Of all of it, and of how the drawn world draws who it shows."""
        from perfusion_registry.storybook.cast import CAST

        individual = repr(CAST[self.cast]) if self.cast is not None else None
        images = [hashlib.sha256(image).hexdigest() for image in self.images]
        return digest_of([self.supercategory, individual, images])


@dataclass(frozen=True)
class ScoreOrder:
    """The pictures of one prompt to be judged.

    keys: of the pictures. text: what text similarity reads, the prompt without the concept's word. spoken:
    the prompt with supercategory words. judged: the concepts it is about. base: what the pictures were drawn
    on (its attention finds the concept). judges: a digest of the models that judge.
    """

    keys: tuple[str, ...]
    text: str
    spoken: str
    judged: tuple[Judged, ...]
    metrics: frozenset[MetricName]
    base: str
    judges: str

    def key(self, picture: str) -> str:
        """The digest of everything that changes the scores of a picture."""
        judged = [one.digest for one in self.judged]
        wanted = sorted(self.metrics)
        return digest_of(
            [SCORING_EPOCH, picture, self.text, self.spoken, judged, wanted, self.base, self.judges]
        )

    def missing(self, cache: Cache) -> tuple[str, ...]:
        """The pictures whose scores are not in the cache."""
        return tuple(picture for picture in self.keys if cache.scores(self.key(picture)) is None)

    @property
    def title(self) -> str:
        """What to call it while it is judged."""
        return self.spoken

    def run(self, worker: Worker) -> int:
        """Judge what is not judged yet; how many pictures that were."""
        pending = self.missing(worker.cache)
        if not pending:
            return 0
        images = _read(worker, pending)
        scores: list[dict[str, float]] = [{} for _ in pending]
        size = (images.shape[-2], images.shape[-1])
        features = worker.scorer.image_features(images).cpu()
        if "image" in self.metrics:
            own = [_references(worker, one, size) for one in self.judged]
            alike = [(features @ references.T).mean(-1) for references in own]
            _note(scores, "image", sum(alike) / len(alike))  # type: ignore[arg-type]
        if "text" in self.metrics:
            _note(scores, "text", features @ worker.scorer.text_features([self.text])[0].cpu())
        if "dino" in self.metrics and worker.setting.dino is not None:
            seen = worker.dino.features(images).cpu()
            own = [_references(worker, one, size, dino=True) for one in self.judged]
            _note(scores, "dino", sum((seen @ r.T).mean(-1) for r in own) / len(own))  # type: ignore[arg-type]
        if self.metrics & (EXACT | {"identified"}):
            self._judge_world(worker, images, scores)
        if "leakage" in self.metrics:
            self._judge_attention(worker, pending, images, scores)
        for picture, told in zip(pending, scores, strict=True):
            wanted = set[str](self.metrics)
            kept = {name: round(value, 6) for name, value in told.items() if name in wanted}
            worker.cache.keep_scores(self.key(picture), kept)
        return len(pending)

    def _judge_world(self, worker: Worker, images: Tensor, scores: list[dict[str, float]]) -> None:
        """What only a drawn world can tell."""
        import torch

        from perfusion_registry.evaluate.measures import Subject, identified, shown
        from perfusion_registry.storybook.cast import CAST
        from perfusion_registry.storybook.reading import asked

        question = asked(self.spoken)
        if self.metrics & EXACT:
            found = worker.recogniser.recognise(images)
            subjects = [
                Subject(one.supercategory, worker.looks(one.cast) if one.cast else frozenset())
                for one in self.judged
            ]
            for told, row in zip(scores, shown(found, question, subjects), strict=True):
                told.update(row)
        cast = [one.cast for one in self.judged if one.cast is not None]
        # Whoever wears something, is made of something else or has other company cannot be compared with
        # portraits.
        comparable = list(question.categories) == [one.supercategory for one in self.judged]
        if question.materials or question.accessories or len(cast) < len(self.judged):
            comparable = False
        if "identified" in self.metrics and comparable:
            each = [
                identified(
                    worker.recogniser.describe(images, CAST[name].category),
                    worker.portraits(cast, k, question),
                )
                for k, name in enumerate(cast)
            ]
            _note(scores, "identified", torch.stack(each).all(0).float())

    def _judge_attention(
        self, worker: Worker, pictures: tuple[str, ...], images: Tensor, scores: list[dict[str, float]]
    ) -> None:
        """How much of the attention to the concept's tokens falls outside the concept (Figures 2, A.3)."""
        from perfusion_registry.evaluate.leakage import leakage, read_map

        if len(self.judged) != 1:
            return
        maps = [read_map(worker.cache.attention(picture)) for picture in pictures]
        if any(one is None for one in maps):
            return  # pictures of the supercategory have no concept whose attention could leak
        values = leakage(
            worker.base(self.base), images, [m for m in maps if m is not None], self.judged[0].supercategory
        )
        _note(scores, "leakage", values)


def _read(worker: Worker, pictures: tuple[str, ...]) -> Tensor:
    """The pictures (B, 3, h, w) in 0..1."""
    import numpy as np
    import torch
    from PIL import Image

    rows = []
    for picture in pictures:
        with Image.open(worker.cache.picture(picture)) as image:
            rows.append(torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255)
    return torch.stack(rows)


def _references(worker: Worker, one: Judged, size: tuple[int, int], *, dino: bool = False) -> Tensor:
    """Features (N, f) of a concept's own images, squared as its training has them."""
    import torch

    from perfusion_registry.build.images import load_image, square

    key = f"{'dino' if dino else 'clip'} {one.digest} {size}"
    known = worker.remembered(key)
    if known is None:
        images = torch.stack([square(load_image(image).pixels, size) for image in one.images])
        model = worker.dino.features if dino else worker.scorer.image_features
        known = model(images).cpu()
        worker.remembered(key, known)
    return known


def _note(scores: list[dict[str, float]], name: str, values: Tensor) -> None:
    for told, value in zip(scores, values.tolist(), strict=True):
        told[name] = value
