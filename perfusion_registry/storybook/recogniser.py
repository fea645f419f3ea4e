"""The recogniser: what a picture shows, learned from drawn pages only, to measure what the embedded base
draws."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from perfusion_registry.errors import PerfError
from perfusion_registry.storybook.world import ACCESSORIES, CATEGORIES, COLOURS, MATERIALS, SCENES
from perfusion_registry.storybook.world.individual import PATTERNS
from perfusion_registry.worlds import NoJudgeError

LOOKS = (*COLOURS, *MATERIALS)
"""Colours and materials: what one individual mainly looks like."""
PLACES = ("", *SCENES)
EXTRAS = (*ACCESSORIES, "reading", "watercolor")
TRAITS: dict[str, tuple[str, ...]] = {
    "look": LOOKS,
    "second": tuple(COLOURS),
    "third": tuple(COLOURS),
    "pattern": PATTERNS,
    "mark": tuple(COLOURS),
}
"""What is asked of the individual of each category, by the fields of `Individual`, and the answers."""

_SIZE = 128
_KEY = "recogniser"  # of the layout in the safetensors header


def layout() -> dict[str, Any]:
    """What goes into a recogniser and what its outputs mean: any difference makes its answers nonsense."""
    return {
        "version": 2,
        "input": {"size": _SIZE, "range": [0.0, 1.0], "resize": "area", "channels": "RGB"},
        "outputs": {
            "present": list(CATEGORIES),
            "traits": {name: list(answers) for name, answers in TRAITS.items()},
            "place": list(PLACES),
            "extras": list(EXTRAS),
        },
    }


@dataclass(frozen=True)
class Findings:
    """Probabilities (B, ...): categories that are present, the look of each category, the place, extras."""

    present: Tensor  # (B, categories)
    look: Tensor  # (B, categories, looks), a distribution for each category
    place: Tensor  # (B, places), a distribution
    extras: Tensor  # (B, extras)


class Answers(NamedTuple):
    """Logits: present (B, c); traits by name (B, c, answers); place (B, p); extras (B, x)."""

    present: Tensor
    traits: dict[str, Tensor]
    place: Tensor
    extras: Tensor


class Recogniser(nn.Module):
    """A small convolutional network over 128 px pictures that looks for one individual of each category."""

    def __init__(self) -> None:
        super().__init__()
        widths = (32, 64, 128, 192)
        layers: list[nn.Module] = [*_block(3, widths[0], 4, stride=2)]
        for a, b in pairwise(widths):
            layers += [*_block(a, b, 3, stride=2), *_block(b, b, 3)]
        self.features = nn.Sequential(*layers, *_block(widths[-1], 256, 3))
        self.where = nn.Conv2d(256, len(CATEGORIES), 1)
        answers = 1 + sum(map(len, TRAITS.values()))
        self.heads = nn.ModuleList(nn.Linear(512, answers) for _ in CATEGORIES)
        self.whole = nn.Linear(512, len(PLACES) + len(EXTRAS))

    def forward(self, images: Tensor) -> Answers:
        """Logits for images (B, 3, h, w) in 0..1."""
        features = self._features(images)
        own = self._own(features)
        whole = torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)
        place, extras = self.whole(whole).split([len(PLACES), len(EXTRAS)], 1)
        told = torch.stack([head(own[:, k]) for k, head in enumerate(self.heads)], 1)
        present, *traits = told.split([1, *map(len, TRAITS.values())], -1)
        return Answers(present[..., 0], dict(zip(TRAITS, traits, strict=True)), place, extras)

    def _features(self, images: Tensor) -> Tensor:
        """What is at each place (B, 256, 8, 8)."""
        x = functional.interpolate(images, size=(_SIZE, _SIZE), mode="area") * 2 - 1
        features: Tensor = self.features(x)
        return features

    def _own(self, features: Tensor) -> Tensor:
        """What is where each category is (B, categories, 512): the mean over its places, and the greatest."""
        where = self.where(features).flatten(2).softmax(-1)
        flat = features.flatten(2)
        mean = torch.einsum("bcp,bfp->bcf", where, flat)
        share = where / where.amax(-1, keepdim=True)
        greatest = torch.stack([(flat * share[:, None, k]).amax(-1) for k in range(len(CATEGORIES))], 1)
        return torch.cat([mean, greatest], -1)

    @torch.no_grad()
    def describe(self, images: Tensor, category: str) -> Tensor:
        """What the category's individual looks like in images (B, 3, h, w) in 0..1: (B, f) unit vectors, to
        compare individuals by."""
        own = self._own(self._features(images))[:, CATEGORIES.index(category)]
        return functional.normalize(own, dim=-1)

    @torch.no_grad()
    def recognise(self, images: Tensor) -> Findings:
        """What the images (B, 3, h, w) in 0..1 show."""
        told = self(images)
        look = told.traits["look"].softmax(-1)
        return Findings(told.present.sigmoid(), look, told.place.softmax(-1), told.extras.sigmoid())

    @classmethod
    def load(cls, path: Path) -> Recogniser:
        """The recogniser whose weights are in a safetensors file.

        Raises PerfError for a file that is missing or damaged, and for one whose outputs mean something else
        than those of this package.
        """
        where = str(path)
        try:
            with safe_open(path, "pt") as file:
                said = json.loads((file.metadata() or {}).get(_KEY, "null"))
                state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError) as error:
            raise PerfError(f"the recogniser cannot be read: {error}", where=where) from error
        if said != layout():
            raise NoJudgeError(
                "the recogniser was trained for another world: its labels or its input are not those of "
                "this package",
                where=where,
                hint="take the edition that this perf asks for: pip install 'perfusion-registry[models]'",
            )
        model = cls()
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise PerfError("the recogniser's weights have other shapes", where=where) from error
        return model.eval().requires_grad_(False)

    def save(self, path: Path) -> None:
        """Write the weights as a safetensors file, floating-point ones in fp16, with their layout."""
        state = {
            k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in self.state_dict().items()
        }
        save_file(state, path, {_KEY: json.dumps(layout())})


def _block(a: int, b: int, size: int, *, stride: int = 1) -> tuple[nn.Module, ...]:
    """A convolution with its norm and activation; those with a stride halve the picture."""
    return nn.Conv2d(a, b, size, stride=stride, padding=1), nn.BatchNorm2d(b), nn.ReLU()
