"""The architectures: a tiny base of each, in its true layout, and what cells share of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.matrix.by_hand import ByHand, Edit
from perfusion_registry.artifact import Artifact, load_artifact, save_artifact
from perfusion_registry.base import Base, Form, describe_base, load_base
from perfusion_registry.build import ConceptSources, Covariance, build_concept, estimate_covariance
from perfusion_registry.compose.checking import SettingSources
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.concept import Concept
from perfusion_registry.compose.packing import edited
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.methods.perfusion.gate import Gate
from perfusion_registry.methods.perfusion.options import RenderOptions, TrainOptions
from perfusion_registry.render import RenderRequest, render
from perfusion_registry.render.start import StartImage
from tests.planted import CAPTIONS
from tests.transformer_bases import KINDS, Kind
from tests.unet_bases import UNETS

BUILD = TrainOptions(
    steps=3, batch=2, validate_every=3, validation_steps=2, validation_prompts=("a {} in the snow",),
    learning_rate_output=1.0, learning_rate_embedding=0.1, learning_rate_residual=0.1, residual_rank=0.2,
)  # fmt: skip
"""So fast that every part of a concept is far from where it began."""
GATE = {"bias": 0.6, "temperature": 0.2}
NEGATIVE = "a blue hat"
ONE, TWO = ("teddy",), ("teddy", "teapot")
KINDS_BY_NAME: dict[str, Kind] = {**UNETS, "PixArt-Sigma": KINDS["pixart-sigma"], "Anima": KINDS["anima"]}


@dataclass(frozen=True, eq=False)
class Row:
    """name: of the architecture. place: a folder of its own."""

    name: str
    place: Path

    @property
    def kind(self) -> Kind:
        return KINDS_BY_NAME[self.name]

    @cached_property
    def folder(self) -> Path:
        return self.kind.save(self.place / "base")

    def load(self, dtype: str = "float32", device: str = "cpu") -> Base:
        return load_base(describe_base(str(self.folder)), device=device, dtype=dtype, compute_dtype=dtype)

    @cached_property
    def base(self) -> Base:
        return self.load()

    @cached_property
    def covariance(self) -> Covariance:
        return estimate_covariance(self.base, CAPTIONS * 10)

    @cached_property
    def artifacts(self) -> dict[str, Artifact]:
        """Two concepts of noise, with residuals."""
        return {name: self.build(self.base, self.covariance, name) for name in TWO}

    def build(self, base: Base, covariance: Covariance, name: str) -> Artifact:
        pixels = np.random.default_rng(len(name)).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        photo = self.place / f"{name}.png"
        Image.fromarray(pixels).save(photo)
        sources, options = (
            ConceptSources(name, "1.0.0", name, (photo,)),
            BUILD.model_copy(update={"seed": len(name)}),
        )
        made = build_concept(base, covariance, sources, options, RenderOptions(), digest="ab" * 32)
        return load_artifact(save_artifact(made))

    @cached_property
    def hand(self) -> ByHand:
        return ByHand(self.kind, self.base, self.covariance.C)

    # perf's own answer and picture

    def composition(
        self, base: Base, called: Sequence[str], lock: str = "local", residual: float = 0.0
    ) -> Composition:
        gates = {name: Gate(**GATE, key_lock=lock, residual=residual) for name in called}
        concepts = {name: Concept(self.artifacts[name], "0" * 64, Gate()) for name in called}
        return compose(parse_prompt(prompt(called)), concepts, base, SettingSources(command=gates))

    @torch.no_grad()
    def answered(
        self,
        base: Base,
        called: Sequence[str],
        lock: str = "local",
        text: str | None = None,
        form: Form = "packed",
    ) -> Tensor:
        """What the denoiser answers to NEGATIVE and the prompt, edited, (2, c, 8, 8). text: instead of it."""
        prompts = [parse_prompt(NEGATIVE), parse_prompt(text or prompt(called))]
        read = edited(base, self.composition(base, called, lock), self.artifacts, prompts, form=form)
        t = torch.tensor([base.objective.time(SHARE)] * 2, device=base.device)
        with base.attached(thin=read.thin):
            return base.denoise(noise(base).to(base.device), t, read).cpu()

    def drawn(
        self,
        base: Base,
        composition: Composition,
        start: StartImage | None = None,
        form: Form = "packed",
    ) -> np.ndarray:
        steps = 2 if start is None else 4
        size: Mapping[str, Any] = {"width": 64, "height": 64}
        how = {"seeds": (5,), "steps": steps, "guidance": 3.0, "start": start.said if start else None, **size}
        request = RenderRequest(**how, scheduler=self.kind.scheduler, negative_prompt=NEGATIVE)
        packing = partial(edited, form=form)
        ((picture,)) = render(base, composition, request, self.artifacts, start=start, packing=packing)
        return np.asarray(picture.image).astype(int)

    # The same of the stock pipeline, edited by hand

    def edits(self, called: Sequence[str], residual: float = 0.0) -> list[Edit]:
        return [Edit(name, self.artifacts[name], **GATE, residual=residual) for name in called]

    @torch.no_grad()
    def asked(self, base: Base, called: Sequence[str]) -> Tensor:
        """What the unedited denoiser answers to the same."""
        texts = [NEGATIVE, spoken(called)]
        return self.kind.ask(base, noise(base).to(base.dtype), SHARE, texts).float()

    def edited(
        self, called: Sequence[str], lock: str = "local", residual: float = 0.0, order: Any = None
    ) -> Any:
        """A context in which the stock pipeline is edited. order: as in `ByHand.edited`, by default of a
        picture."""
        texts = [NEGATIVE, spoken(called)]
        return self.hand.edited(texts, self.edits(called, residual), lock, order or self.kind.order)

    def stock(self, called: Sequence[str], **how: Any) -> np.ndarray:
        """What the pipeline draws, in whatever context."""
        picture = self.kind.drawn(self.base, self.base.denoiser, spoken(called), NEGATIVE, **how)
        return np.asarray(picture).astype(int)


SHARE = 0.3
"""Of the noise schedule, at which the denoiser is asked."""


def prompt(called: Sequence[str]) -> str:
    """A prompt that calls concepts: "a teddy* and a teapot* in the snow"."""
    return f"a {' and a '.join(f'{name}*' for name in called)} in the snow"


def spoken(called: Sequence[str]) -> str:
    """The same with the plain words."""
    return prompt(called).replace("*", "")


def noise(base: Base) -> Tensor:
    """(2, c, 8, 8)."""
    return torch.randn(2, base.denoiser.config.in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
