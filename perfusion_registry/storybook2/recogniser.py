"""The recogniser: what a picture shows, learned from drawn pages only, to measure what a base draws."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from perfusion_registry.errors import PerfError
from perfusion_registry.worlds import NoJudgeError

SIZE = 128
"""Pixels of the pictures that it looks at."""
_KEY = "recogniser"  # of the labels in the safetensors header
_WIDTH = 256


@dataclass(frozen=True)
class Labels:
    """What can be asked, and the answers. nouns: what may be there. traits: of one thing, by name. wholes: of
    the page. relations: of a first thing to a second."""

    nouns: tuple[str, ...]
    traits: Mapping[str, tuple[str, ...]]
    wholes: Mapping[str, tuple[str, ...]]
    relations: tuple[str, ...]


class Look(NamedTuple):
    """What is where each noun is: features (B, 256, 16, 16); where (B, nouns, 256), distributions over the
    places; mean (B, nouns, 256), of the features there."""

    features: Tensor
    where: Tensor
    mean: Tensor

    def float(self) -> Look:
        """The same in fp32, from whatever format it was computed in."""
        return Look(*(part.float() for part in self))


class Recogniser(nn.Module):
    """A small convolutional network that looks for each noun, and there for what is told of it."""

    def __init__(self, labels: Labels) -> None:
        super().__init__()
        self.labels = labels
        nouns = len(labels.nouns)
        self.fine = nn.Sequential(
            _block(3, 32, 4, stride=2),
            _block(32, 64, 4, stride=2),
            _block(64, 64),
            _block(64, 128, 4, stride=2),
            _block(128, 128),
        )
        self.coarse = nn.Sequential(_block(128, 192, 4, stride=2), _block(192, 192), _block(192, 192))
        self.widest = nn.Sequential(_block(192, 192, 4, stride=2), _block(192, 192))
        self.merge = _block(128 + 192 + 192, _WIDTH)
        self.where = nn.Conv2d(_WIDTH, nouns, 1)
        self.presence = nn.Parameter(torch.zeros(nouns, _WIDTH))
        self.absence = nn.Parameter(torch.full((nouns,), -4.0))
        self.noun = nn.Embedding(nouns, 64)
        self.about = nn.Sequential(nn.Linear(2 * _WIDTH + 64, _WIDTH), nn.ReLU())
        self.trait_answers = nn.Linear(_WIDTH, sum(map(len, labels.traits.values())))
        self.whole_answers = nn.Linear(2 * _WIDTH, sum(map(len, labels.wholes.values())))
        self.between = nn.Sequential(nn.Linear(2 * _WIDTH + 6, 128), nn.ReLU())
        self.relation_answers = nn.Linear(128, len(labels.relations))

    def look(self, images: Tensor) -> Look:
        """Look at images (B, 3, h, w) in 0..1."""
        x = functional.interpolate(images, size=(SIZE, SIZE), mode="area") * 2 - 1
        fine = self.fine(x.contiguous(memory_format=torch.channels_last))
        coarse = self.coarse(fine)
        widest = self.widest(coarse)
        parts = [
            functional.interpolate(part, size=fine.shape[-2:], mode="nearest") for part in (coarse, widest)
        ]
        features = self.merge(torch.cat([fine, *parts], 1))
        where = self.where(features).flatten(2).softmax(-1)
        return Look(features, where, torch.einsum("bnp,bfp->bnf", where, features.flatten(2)))

    def present(self, look: Look) -> Tensor:
        """Logits (B, nouns) that each noun is there."""
        return (look.mean * self.presence).sum(-1) + self.absence

    def about_noun(self, look: Look, nouns: Tensor) -> Tensor:
        """What the thing of each noun (B,) looks like: (B, 256)."""
        rows = torch.arange(len(nouns), device=nouns.device)
        share = look.where[rows, nouns]
        share = share / share.amax(-1, keepdim=True)
        greatest = (look.features.flatten(2) * share[:, None]).amax(-1)
        told = torch.cat([look.mean[rows, nouns], greatest, self.noun(nouns)], -1)
        result: Tensor = self.about(told)
        return result

    def traits(self, look: Look, nouns: Tensor) -> dict[str, Tensor]:
        """Logits (B, answers) about the thing of each noun (B,), by the trait's name."""
        return _named(self.trait_answers(self.about_noun(look, nouns)), self.labels.traits)

    def wholes(self, look: Look) -> dict[str, Tensor]:
        """Logits (B, answers) about the page, by what is asked."""
        pooled = torch.cat([look.features.mean((2, 3)), look.features.amax((2, 3))], 1)
        return _named(self.whole_answers(pooled), self.labels.wholes)

    def relations(self, look: Look, first: Tensor, second: Tensor) -> Tensor:
        """Logits (B, relations) of how the thing of the first noun (B,) stands to that of the second (B,)."""
        rows = torch.arange(len(first), device=first.device)
        pair = [(look.mean[rows, nouns], _middle(look.where[rows, nouns])) for nouns in (first, second)]
        (a, at), (b, to) = pair
        result: Tensor = self.relation_answers(self.between(torch.cat([a, b, at, to, at - to], -1)))
        return result

    @torch.no_grad()
    def describe(self, images: Tensor, noun: str) -> Tensor:
        """What the noun's individual looks like in images (B, 3, h, w) in 0..1: (B, 256) unit vectors, to
        compare individuals by."""
        look = self.look(images)
        nouns = torch.full((len(images),), self.labels.nouns.index(noun), device=images.device)
        return functional.normalize(self.about_noun(look, nouns), dim=-1)

    @classmethod
    def load(cls, path: Path, labels: Labels) -> Recogniser:
        """The recogniser whose weights are in a safetensors file.

        Raises PerfError for a file that is missing or damaged, and for one whose answers mean something else.
        """
        where = str(path)
        try:
            with safe_open(path, "pt") as file:
                said = json.loads((file.metadata() or {}).get(_KEY, "null"))
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError) as error:
            raise PerfError(f"the recogniser cannot be read: {error}", where=where) from error
        if said != _told(labels):
            raise NoJudgeError(
                "the recogniser was trained for another world: its labels are not this package's",
                where=where,
                hint="take the edition that this perf asks for: pip install 'perfusion-registry[models]'",
            )
        model = cls(labels)
        try:
            model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
        except RuntimeError as error:
            raise PerfError("the recogniser's weights have other shapes", where=where) from error
        return model.eval().requires_grad_(False)

    def save(self, path: Path) -> None:
        """Write the weights as a safetensors file, floating-point ones in fp16, with their labels."""
        state = {k: v.half() if v.is_floating_point() else v for k, v in self.state_dict().items()}
        beside = path.with_name(path.name + ".partial")
        save_file(
            {k: v.contiguous() for k, v in state.items()}, beside, {_KEY: json.dumps(_told(self.labels))}
        )
        beside.replace(path)


def _told(labels: Labels) -> dict[str, Any]:
    told = {"version": 3, "input": {"size": SIZE, "range": [0.0, 1.0]}, "labels": asdict(labels)}
    result: dict[str, Any] = json.loads(json.dumps(told))
    return result


def _named(logits: Tensor, answers: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
    return dict(zip(answers, logits.split([len(a) for a in answers.values()], -1), strict=True))


def _middle(where: Tensor) -> Tensor:
    """The mean place (B, 2), x and y in 0..1, of distributions (B, s * s)."""
    side = round(where.shape[-1] ** 0.5)
    grid = where.unflatten(-1, (side, side))
    line = (torch.arange(side, device=where.device) + 0.5) / side
    return torch.stack([(grid.sum(1) * line).sum(-1), (grid.sum(2) * line).sum(-1)], -1)


def _block(a: int, b: int, size: int = 3, *, stride: int = 1) -> nn.Sequential:
    """A convolution with its norm and activation; those with a stride halve the picture."""
    return nn.Sequential(
        nn.Conv2d(a, b, size, stride=stride, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU()
    )
