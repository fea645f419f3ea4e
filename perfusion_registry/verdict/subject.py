"""A concept that was just trained, in prompts: composed without a project, drawn beside its plain word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from perfusion_registry.artifact import Artifact
from perfusion_registry.compose.checking import SettingSources
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.concept import Concept
from perfusion_registry.compose.prompt import Call, Piece, Prompt, Text
from perfusion_registry.methods.settings import Settings
from perfusion_registry.render.draw import native_values, render
from perfusion_registry.render.request import RenderRequest, resolve_request

if TYPE_CHECKING:
    from perfusion_registry.base import Base
    from perfusion_registry.recipe.options import TrainingOptions

_NOWHERE = "0" * 64  # the digest of what is in no store yet: no record of these pictures is kept


@dataclass(frozen=True, eq=False)
class Trained:
    """A concept on the base that it was trained on. train: its options."""

    base: Base
    artifact: Artifact
    train: TrainingOptions

    @property
    def name(self) -> str:
        """As prompts call it."""
        return self.artifact.card.name

    @property
    def word(self) -> str:
        """Its supercategory."""
        word = self.artifact.card.supercategory
        assert word is not None  # else nothing was trained
        return word

    def composed(self, template: str, settings: Settings | None = None) -> Composition:
        """A prompt that calls it where the template has `{}`. settings: its options, by field."""
        before, _, after = template.partition("{}")
        pieces: list[Piece] = [Text(before), Call(self.name, ()), Text(after)]
        prompt = Prompt(tuple(piece for piece in pieces if piece != Text("")))
        concepts = {self.name: Concept(self.artifact, _NOWHERE)}
        return compose(prompt, concepts, self.base, SettingSources(command={self.name: settings or {}}))

    def plain(self, template: str) -> Composition:
        """The same prompt with the plain word."""
        return compose(Prompt((Text(template.replace("{}", self.word)),)), {}, self.base)

    @cached_property
    def request(self) -> RenderRequest:
        """How the build draws: its card's size, with the steps and guidance of validation pictures."""
        given = {"steps": self.train.validation_steps, "guidance": self.train.validation_guidance}
        card = self.base.description.card.render
        return resolve_request(given, card, native=native_values(self.base))

    def drawn(self, composition: Composition, seeds: Sequence[int]) -> Tensor:
        """Its pictures (seeds, 3, H, W) in 0..1, drawn together."""
        request = self.request.model_copy(update={"seeds": tuple(seeds), "batch": len(seeds)})
        artifacts: Mapping[str, Artifact] = {self.name: self.artifact}
        pictures = [
            torch.from_numpy(np.array(one.image.convert("RGB"))).permute(2, 0, 1).float() / 255
            for one in render(self.base, composition, request, artifacts)
        ]
        return torch.stack(pictures)
