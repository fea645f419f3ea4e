"""Draw orders: the pictures of one prompt under one variant, into the cache."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from perfusion_registry.artifact import Artifact, digest_of
from perfusion_registry.artifact.durations import BuildTime, Durations
from perfusion_registry.methods.settings import Value
from perfusion_registry.methods.table import find_method

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from perfusion_registry.base import Base
    from perfusion_registry.compose import Composition
    from perfusion_registry.evaluate.cache import Cache
    from perfusion_registry.evaluate.worker import Worker
    from perfusion_registry.render import RenderRequest

DRAWING_EPOCH = 1
"""Raised whenever a change to the package changes what the same order draws."""


_WORDS = re.compile(r"\w+|[^\w\s]")
_AT_ONCE = 30
"""Words and marks that any text encoder reads at once, Storybook's too."""


@dataclass(frozen=True)
class DrawnConcept:
    """A concept in an order: its artifact, its method, and what is set for it, by field; the rest is its
    own."""

    name: str
    sha256: str
    method: str
    settings: tuple[tuple[str, Value], ...]

    @property
    def key(self) -> list[Value | None]:
        """What changes pictures: the artifact, each option of the method that can be set, and settings that
        stand for options, such as presets, where one is set."""
        method, said = find_method(self.method), dict(self.settings)
        fields = method.draw_model.model_fields
        own = [setting.field for setting in method.settings if setting.field in fields]
        others = [part for field in sorted(said.keys() - own) for part in (field, said[field])]
        return [self.sha256, *(said.get(field) for field in own), *others]


@dataclass(frozen=True)
class DrawOrder:
    """One prompt, drawn once for each of `seeds`.

    prompt: as `perf render` takes it; without stars for the supercategory baseline. concepts: those that it
    calls. method: as the suite says it; drawing: the other way to draw that this stands for, if it is one.
    base: the reference of the base to draw on, and its digest. steps, guidance, scheduler: None for the
    base's. attention: also keep where the concepts' tokens drew attention.
    """

    prompt: str
    concepts: tuple[DrawnConcept, ...]
    method: str
    drawing: str | None
    seeds: tuple[int, ...]
    base: str
    base_digest: str
    steps: int | None
    guidance: float | None
    scheduler: str | None
    computing: tuple[str, str]
    attention: bool = False

    def key(self, seed: int) -> str:
        """The digest of everything that changes the picture of a seed; with whom it is drawn does not."""
        return digest_of(
            {
                "epoch": DRAWING_EPOCH,
                "prompt": self.prompt if self._reads_as_before else {"in chunks": self.prompt},
                "concepts": [concept.key for concept in self.concepts],
                "method": self.method,
                "base": self.base_digest,
                "request": [self.steps, self.guidance, self.scheduler],
                "computing": list(self.computing),
                "seed": seed,
            }
        )

    @property
    def _reads_as_before(self) -> bool:
        """Whether pictures of it from before there were weights and chunks are what it asks for."""
        from perfusion_registry.compose import parse_prompt

        at_once = len(_WORDS.findall(self.prompt)) <= _AT_ONCE
        return at_once and parse_prompt(self.prompt, plain=True) == parse_prompt(self.prompt)

    def keys(self) -> dict[int, str]:
        """The keys of its pictures, by seed."""
        return {seed: self.key(seed) for seed in self.seeds}

    def missing(self, cache: Cache) -> dict[int, str]:
        """Those whose pictures, or attention maps where they are wanted, are not in the cache."""
        return {
            seed: key
            for seed, key in self.keys().items()
            if not cache.picture(key).is_file()
            or (self.keeps_attention and not cache.attention(key).is_file())
        }

    @property
    def keeps_attention(self) -> bool:
        """Whether it also makes maps of attention."""
        return self.attention and bool(self.concepts)

    @property
    def gated(self) -> bool:
        """Whether gates say where its concepts act: it is drawn by Eq. 4."""
        methods = [find_method(concept.method) for concept in self.concepts]
        return self.drawing is None and bool(methods) and all(method.needs_covariance for method in methods)

    @property
    def kind(self) -> str:
        """A digest of what decides how long a picture of it takes."""
        methods = sorted({concept.method for concept in self.concepts})
        return digest_of(["drawn", self.base_digest, self.steps, methods, len(self.concepts)])

    @property
    def title(self) -> str:
        """What to call it while it is drawn."""
        return self.prompt

    def run(self, worker: Worker) -> int:
        """Draw what is missing; how many pictures that were."""
        missing = self.missing(worker.cache)
        if not missing:
            return 0
        base, begun = worker.base(self.base), time.monotonic()
        artifacts = {concept.name: worker.artifact(concept.sha256) for concept in self.concepts}
        composition = self.composition(base, artifacts)
        request = self._request(base, tuple(missing))
        pictures, maps = self._draw(base, composition, request, artifacts)
        for number, (key, picture) in enumerate(zip(missing.values(), pictures, strict=True)):
            if maps is not None:  # before the picture, whose presence says that all is done
                worker.cache.keep(worker.cache.attention(key), _greys(maps[number]))
            worker.cache.keep(worker.cache.picture(key), picture)
        each = (time.monotonic() - begun) / len(missing)
        Durations(worker.store.root).keep(self.kind, BuildTime(step=each, rest=0.0))
        return len(missing)

    def composition(self, base: Base, artifacts: Mapping[str, Artifact]) -> Composition:
        """The prompt as it is drawn, with what the order sets."""
        from perfusion_registry.compose import Concept, SettingSources, compose, parse_prompt

        settings = SettingSources(command={c.name: dict(c.settings) for c in self.concepts})
        concepts = {c.name: Concept(artifacts[c.name], c.sha256) for c in self.concepts}
        return compose(parse_prompt(self.prompt), concepts, base, settings)

    def _request(self, base: Base, seeds: tuple[int, ...]) -> RenderRequest:
        from perfusion_registry.render import native_values, resolve_request

        given = {
            "seeds": seeds,
            "batch": len(seeds),
            "steps": self.steps,
            "guidance": self.guidance,
            "scheduler": self.scheduler,
        }
        return resolve_request(given, base.description.card.render, native=native_values(base))

    def _draw(
        self,
        base: Base,
        composition: Composition,
        request: RenderRequest,
        artifacts: Mapping[str, Artifact],
    ) -> tuple[list[bytes], Tensor | None]:
        """The pictures as PNG, and the maps (B, h, w) of attention to all concepts' tokens."""
        from perfusion_registry.compose.drawings import pack_by
        from perfusion_registry.compose.packing import edited
        from perfusion_registry.render import png_bytes, render
        from perfusion_registry.render.draw import Packing

        packing: Packing = edited if self.drawing is None else partial(pack_by, self.drawing)
        with ExitStack() as contexts:
            recorder = None
            if self.attention and composition.concepts:
                factor = base.pixels_per_latent
                places = [position for concept in composition.concepts for position in concept.positions]
                branches = 2 if request.guidance > 1 else 1
                together, apart = (branches, 1) if base.guided_together else (1, branches)
                size = (request.height // factor, request.width // factor)
                recorder = contexts.enter_context(
                    base.recorder([places] * (together * len(request.seeds)), size, apart)
                )
            drawn = list(render(base, composition, request, artifacts, packing=packing))
        # Of both branches in one call, the prompt's is the last.
        maps = recorder.maps()[-len(drawn) :].cpu() if recorder is not None else None
        if self.drawing is not None:  # the record tells of Eq. 4, by which `perf render --from` would draw
            return [_png(picture.image) for picture in drawn], maps
        return [png_bytes(picture.image, picture.record) for picture in drawn], maps


def _greys(attention: Tensor) -> bytes:
    """A map (h, w) of shares in 0..1 as a PNG of 16-bit greys."""
    import numpy as np
    from PIL import Image as Images

    return _png(Images.fromarray((attention.clamp(0, 1).numpy() * 65535).round().astype(np.uint16)))


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
