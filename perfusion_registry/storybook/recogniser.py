"""The recogniser: what a picture shows, learned from drawn pages only, to measure what the embedded base
draws."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save_file
from torch import Tensor, nn
from torch.nn import functional

from perfusion_registry.errors import PerfError
from perfusion_registry.storybook.world import ACCESSORIES, CATEGORIES, COLOURS, MATERIALS, SCENES, Page

LOOKS = (*COLOURS, *MATERIALS)
"""Colours and materials: what one individual mainly looks like."""
PLACES = ("", *SCENES)
EXTRAS = (*ACCESSORIES, "reading", "watercolor")
RECORDED = Path(__file__).with_name("recogniser.json")
"""The layout of the recogniser that was shipped before its file said it itself, by the file's SHA-256."""

_KEY = "recogniser"  # of the layout in the safetensors header


def layout() -> dict[str, Any]:
    """What goes into a recogniser and what its outputs mean: any difference makes its answers nonsense."""
    return {
        "version": 1,
        "input": {"size": 64, "range": [0.0, 1.0], "resize": "area", "channels": "RGB"},
        "outputs": {
            "present": list(CATEGORIES),
            "look": list(LOOKS),
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


class Recogniser(nn.Module):
    """A small convolutional network over 64 px pictures."""

    def __init__(self) -> None:
        super().__init__()
        widths = (32, 64, 128, 192, 256)
        layers: list[nn.Module] = [
            nn.Conv2d(3, widths[0], 3, padding=1),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        ]
        for a, b in pairwise(widths):
            layers += [nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b), nn.ReLU()]
            layers += [nn.Conv2d(b, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1] * 2, len(CATEGORIES) * (1 + len(LOOKS)) + len(PLACES) + len(EXTRAS))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits for images (B, 3, h, w) in 0..1: present, look, place and extras."""
        n = len(CATEGORIES)
        present, look, place, extras = self.head(self._pooled(images)).split(
            [n, n * len(LOOKS), len(PLACES), len(EXTRAS)], 1
        )
        return present, look.view(-1, n, len(LOOKS)), place, extras

    def _pooled(self, images: Tensor) -> Tensor:
        """What the answers are made from (B, 512)."""
        x = functional.interpolate(images, size=(64, 64), mode="area") * 2 - 1
        features = self.features(x)
        return torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)

    @torch.no_grad()
    def describe(self, images: Tensor) -> Tensor:
        """What the images (B, 3, h, w) in 0..1 look like: (B, f) unit vectors, to compare individuals by."""
        return functional.normalize(self._pooled(images), dim=-1)

    @torch.no_grad()
    def recognise(self, images: Tensor) -> Findings:
        """What the images (B, 3, h, w) in 0..1 show."""
        present, look, place, extras = self(images)
        return Findings(present.sigmoid(), look.softmax(-1), place.softmax(-1), extras.sigmoid())

    @classmethod
    def load(cls, path: Path) -> Recogniser:
        """The recogniser whose weights are in a safetensors file.

        Raises PerfError for a file that is missing or damaged, and for one whose outputs mean something else
        than those of this package.
        """
        where = str(path)
        try:
            data = path.read_bytes()
            state = load(data)
            with safe_open(path, "pt") as file:
                said = (file.metadata() or {}).get(_KEY)
        except (OSError, SafetensorError) as error:
            raise PerfError(f"the recogniser cannot be read: {error}", where=where) from error
        if _told(said, data) != layout():
            raise PerfError(
                "the recogniser was trained for another world: its labels or its input are not those of "
                "this package",
                where=where,
                hint="train it anew: python -m perfusion_registry.storybook.training WORK recogniser",
            )
        model = cls()
        try:
            model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
        except RuntimeError as error:
            raise PerfError("the recogniser's weights have other shapes", where=where) from error
        return model.eval().requires_grad_(False)

    def save(self, path: Path) -> None:
        """Write the weights as a safetensors file, floating-point ones in fp16, with their layout."""
        state = {
            k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in self.state_dict().items()
        }
        save_file(state, path, {_KEY: json.dumps(layout())})


def _told(said: str | None, data: bytes) -> Any:
    """The layout that a file's header says, or that is recorded for its bytes; None where nobody knows."""
    try:
        if said is not None:
            return json.loads(said)
        recorded = json.loads(RECORDED.read_bytes())
        known = recorded["sha256"] == hashlib.sha256(data).hexdigest()
        return recorded["layout"] if known else None
    except (OSError, ValueError, KeyError):
        return None


@dataclass(frozen=True)
class Truth:
    """What pages show, as the recogniser's targets: present (B, c), look (B, c) with -1 for absent, place
    (B,) and extras (B, x)."""

    present: Tensor
    look: Tensor
    place: Tensor
    extras: Tensor

    @classmethod
    def of(cls, pages: list[Page]) -> Truth:
        """The truth about pages."""
        present = torch.zeros(len(pages), len(CATEGORIES))
        look = torch.full((len(pages), len(CATEGORIES)), -1)
        place = torch.tensor([PLACES.index(page.scene or "") for page in pages])
        extras = torch.zeros(len(pages), len(EXTRAS))
        for row, page in enumerate(pages):
            for one in page.subjects:
                kind = CATEGORIES.index(one.category)
                present[row, kind] = 1
                look[row, kind] = LOOKS.index(one.material or one.colour)
                if one.accessory:
                    extras[row, EXTRAS.index(one.accessory)] = 1
                if one.reading:
                    extras[row, EXTRAS.index("reading")] = 1
            if page.style:
                extras[row, EXTRAS.index(page.style)] = 1
        return cls(present, look, place, extras)


def recogniser_loss(logits: tuple[Tensor, Tensor, Tensor, Tensor], truth: Truth) -> Tensor:
    """Sum of the cross-entropies of all four questions, every category and extra counting as one."""
    present, look, place, extras = logits
    shown = truth.look >= 0
    return (
        functional.binary_cross_entropy_with_logits(present, truth.present) * present.shape[1]
        + functional.cross_entropy(look[shown], truth.look[shown])
        + functional.cross_entropy(place, truth.place)
        + functional.binary_cross_entropy_with_logits(extras, truth.extras) * extras.shape[1]
    )
