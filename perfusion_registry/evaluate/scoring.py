"""Score orders: the metrics of single pictures, into the cache (Section 5, and those of a drawn world)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from perfusion_registry.artifact import digest_of
from perfusion_registry.evaluate.cache import SCORING_EPOCH
from perfusion_registry.evaluate.metrics import USUAL, MetricName, world
from perfusion_registry.worlds import Subject

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.evaluate.cache import Cache
    from perfusion_registry.evaluate.worker import Worker


@dataclass(frozen=True)
class Judged:
    """A concept that pictures are judged by. images: the bytes of its own ones. cast: who of its world's
    cast it is."""

    name: str
    supercategory: str
    images: tuple[bytes, ...]
    cast: str | None
    world: str = USUAL

    @property
    def digest(self) -> str:
        """Of all of it, and of how the drawn world draws who it shows."""
        individual = world(self.world).identity(self.cast) if self.cast is not None else None
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
        judged = [subject.digest for subject in self.judged]
        wanted = sorted(self.metrics)
        return digest_of(
            [SCORING_EPOCH, picture, self.text, self.spoken, judged, wanted, self.base, self.judges]
        )

    @property
    def needs_attention(self) -> bool:
        """Whether it looks where pictures' concepts drew attention, as far as that is kept."""
        return "leakage" in self.metrics

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
        shown = _Shown(self, worker, pending, images)
        scores: list[dict[str, float]] = [{} for _ in pending]
        for metric, score in SCORERS.items():
            if metric in self.metrics and (values := score(shown)) is not None:
                for row, value in zip(scores, values.tolist(), strict=True):
                    row[metric] = value
        known = worker.world.metrics.keys() & self.metrics
        if known:
            subjects = [Subject(subject.supercategory, subject.cast) for subject in self.judged]
            judged = worker.judge.scores(
                self.spoken, subjects, images, known, base=worker.base, recall=worker.recalled
            )
            scores = [row | more for row, more in zip(scores, judged, strict=True)]
        for picture, row in zip(pending, scores, strict=True):
            kept = {name: round(value, 6) for name, value in row.items()}
            worker.cache.keep_scores(self.key(picture), kept)
        return len(pending)


@dataclass(frozen=True, eq=False)
class _Shown:
    """Pictures of an order that are judged together. images: (B, 3, h, w) in 0..1."""

    order: ScoreOrder
    worker: Worker
    pictures: tuple[str, ...]
    images: Tensor

    @cached_property
    def features(self) -> Tensor:
        """What the suite's CLIP model sees in them, (B, f) unit vectors."""
        return self.worker.scorer.image_features(self.images).cpu()

    def likeness(self, features: Tensor, *, dino: bool = False) -> Tensor:
        """Mean cosine (B,) to the own images of each concept, over all concepts."""
        size = (self.images.shape[-2], self.images.shape[-1])
        own = [_references(self.worker, subject, size, dino=dino) for subject in self.order.judged]
        total: Tensor = sum((features @ references.T).mean(-1) for references in own)  # type: ignore[assignment]
        return total / len(own)


def _image(shown: _Shown) -> Tensor:
    return shown.likeness(shown.features)


def _text(shown: _Shown) -> Tensor:
    return shown.features @ shown.worker.scorer.text_features([shown.order.text])[0].cpu()


def _dino(shown: _Shown) -> Tensor | None:
    if shown.worker.setting.dino is None:
        return None
    return shown.likeness(shown.worker.dino.features(shown.images).cpu(), dino=True)


def _leakage(shown: _Shown) -> Tensor | None:
    """How much of the attention to the concept's tokens falls outside the concept (Figures 2, A.3)."""
    from perfusion_registry.evaluate.leakage import leakage, read_map

    order, worker = shown.order, shown.worker
    if len(order.judged) != 1:
        return None
    maps = [read_map(worker.cache.attention(picture)) for picture in shown.pictures]
    if any(attention is None for attention in maps):
        return None  # pictures of the supercategory have no concept whose attention could leak
    attended = [attention for attention in maps if attention is not None]
    return leakage(worker.base(order.base), shown.images, attended, order.judged[0].supercategory)


SCORERS: Mapping[str, Callable[[_Shown], Tensor | None]] = {
    "image": _image,
    "text": _text,
    "dino": _dino,
    "leakage": _leakage,
}
"""What scores any picture, each (B,), by metric; None where it cannot be told. What each needs is loaded when
it is asked; a drawn world scores its own metrics."""


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


def _references(worker: Worker, judged: Judged, size: tuple[int, int], *, dino: bool = False) -> Tensor:
    """Features (N, f) of a concept's own images, squared as its training has them."""
    import torch

    from perfusion_registry.build.framing import square
    from perfusion_registry.build.images import load_image

    key = f"{'dino' if dino else 'clip'} {judged.digest} {size}"
    known = worker.remembered(key)
    if known is None:
        images = torch.stack([square(load_image(image).pixels, size) for image in judged.images])
        model = worker.dino.features if dino else worker.scorer.image_features
        known = model(images).cpu()
        worker.remembered(key, known)
    return known
