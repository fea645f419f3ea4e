"""Training the recogniser on drawn pages, and on pages that went through the autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from perfusion_registry.storybook2.recogniser import SIZE, Labels, Look, Recogniser
from perfusion_registry.storybook2.training.masks import averaged_down
from perfusion_registry.storybook2.training.optimizer import Optimizer
from perfusion_registry.storybook2.training.precision import autocast
from perfusion_registry.storybook2.training.seeds import generator, numbers, seed_of

UNTOLD = -1
"""Stands for an answer that cannot be seen, or would not be one answer."""
OFF = 0.15
"""The most noise of a redrawn page's latent, in standard deviations of latents; each page has less by chance.
"""


@dataclass(frozen=True)
class Truth:
    """What n pages show.

    present: (n, nouns) bool. things: (n, k) the noun of each thing, or `UNTOLD` where there is none or
    another of the same noun. traits: by name, (n, k) the answers. wholes: by name, (n,). relation: (n,), of
    the first thing to the second.
    """

    present: Tensor
    things: Tensor
    traits: dict[str, Tensor]
    wholes: dict[str, Tensor]
    relation: Tensor

    def __getitem__(self, rows: Tensor) -> Truth:
        """The truth about some of the pages."""
        return Truth(
            self.present[rows],
            self.things[rows],
            {name: told[rows] for name, told in self.traits.items()},
            {name: told[rows] for name, told in self.wholes.items()},
            self.relation[rows],
        )


@dataclass(frozen=True)
class Lesson:
    """A shard to learn from. images: (n, 128, 128, 3) uint8. masks: (n, k, 16, 16) uint8 of the things."""

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    truth: Truth


@dataclass(frozen=True)
class RecogniserPlan:
    """How to train. where: weight of the loss that puts each noun's attention on its thing. redrawn: share of
    the batches that went through the autoencoder, where there are any. zoom, shift: the most that a page is
    made larger or smaller, and moved, as shares of its size."""

    batch: int = 48
    matrix_rate: float = 4e-3
    rest_rate: float = 2e-3
    where: float = 0.3
    redrawn: float = 0.3
    zoom: float = 0.15
    shift: float = 0.06
    seed: int = 0


class RecogniserLearner:
    """The recogniser in training."""

    def __init__(
        self,
        labels: Labels,
        drawn: Sequence[Lesson],
        redrawn: Sequence[Lesson],
        plan: RecogniserPlan,
        *,
        device: str = "cpu",
    ) -> None:
        self.drawn, self.redrawn, self.plan, self.device = drawn, redrawn, plan, device
        torch.manual_seed(seed_of("recogniser", plan.seed))
        self.model = Recogniser(labels).train().to(device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = Optimizer(self.model, matrix_rate=plan.matrix_rate, rest_rate=plan.rest_rate)

    @property
    def batch(self) -> int:
        """Pages a step."""
        return self.plan.batch

    def step(self, number: int, pages: int, rate: float) -> dict[str, float]:
        """One step; measures the losses of all questions."""
        rng = numbers("recogniser", self.plan.seed, number)
        torch.manual_seed(seed_of("recogniser", self.plan.seed, number))
        lessons = self.redrawn if self.redrawn and rng.random() < self.plan.redrawn else self.drawn
        lesson = lessons[int(rng.integers(len(lessons)))]
        rows = np.sort(
            rng.choice(len(lesson.images), min(self.plan.batch, len(lesson.images)), replace=False)
        )
        x = torch.from_numpy(lesson.images[rows]).permute(0, 3, 1, 2).float() / 255
        masks = torch.from_numpy(lesson.masks[rows]).float().to(self.device) / 255
        x, masks = moved(x.to(self.device), masks, rng, zoom=self.plan.zoom, shift=self.plan.shift)
        x = varied(x, rng)
        truth = lesson.truth[torch.from_numpy(rows)]
        with autocast(self.device):
            look = self.model.look(x).float()
        losses = recogniser_losses(self.model, look, truth, masks)
        loss = losses["nouns"] + self.plan.where * losses["where"]
        loss = loss + sum(value for name, value in losses.items() if name not in ("nouns", "where"))
        loss.backward()
        self.optimizer.step(rate, clip=5.0)
        return {name: float(value.detach()) for name, value in losses.items()}

    def state_dict(self) -> dict[str, Any]:
        """Weights with the norms' running means, and the optimiser."""
        weights = {key: value.contiguous() for key, value in self.model.state_dict().items()}
        return {"weights": weights, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.model.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])


def recogniser_losses(model: Recogniser, look: Look, truth: Truth, masks: Tensor) -> dict[str, Tensor]:
    """Cross-entropies: of the nouns (each page's sum), of traits, wholes and relations (sums over the
    questions of means over what can be told), and -log of the share of each noun's attention on its thing.

    masks: (B, k, 16, 16) in 0..1 of the things.
    """
    device = look.mean.device
    present = truth.present.float().to(device)
    answers = functional.binary_cross_entropy_with_logits(model.present(look), present, reduction="none")
    losses = {"nouns": answers.sum(1).mean()}
    row, thing = torch.where(truth.things != UNTOLD)
    nouns = truth.things[row, thing].to(device)
    chosen = Look(look.features[row], look.where[row], look.mean[row])
    share = (chosen.where[torch.arange(len(nouns)), nouns] * masks[row, thing].flatten(1)).sum(-1)
    visible = masks[row, thing].flatten(1).amax(-1) > 0.5
    losses["where"] = -(share[visible].clamp_min(1e-4)).log().mean() if visible.any() else share.sum() * 0
    traits = share.sum() * 0
    for name, logits in model.traits(chosen, nouns).items():
        traits = traits + _told(logits, truth.traits[name][row, thing].to(device))
    losses["traits"] = traits
    wholes = share.sum() * 0
    for name, logits in model.wholes(look).items():
        wholes = wholes + _told(logits, truth.wholes[name].to(device))
    losses["wholes"] = wholes
    pairs = torch.where((truth.things[:, 0] != UNTOLD) & (truth.things[:, 1] != UNTOLD))[0]
    two = Look(look.features[pairs], look.where[pairs], look.mean[pairs])
    first, second = (truth.things[pairs, k].to(device) for k in (0, 1))
    losses["relations"] = _told(model.relations(two, first, second), truth.relation[pairs].to(device))
    return losses


def _told(logits: Tensor, answers: Tensor) -> Tensor:
    told = answers != UNTOLD
    if not told.any():
        return logits.sum() * 0
    return functional.cross_entropy(logits.float()[told], answers[told])


def varied(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Pages (B, 3, h, w) in 0..1, half of the batches blurred, all noised: so it judges shapes and colours,
    not the crispness that a decoder cannot reach. Never mirrored: it is asked for left and right."""
    if rng.random() < 0.5:
        x = functional.interpolate(functional.avg_pool2d(x, 2), scale_factor=2.0, mode="bilinear")
    return (x + torch.randn_like(x) * 0.04 * float(rng.random())).clamp(0, 1)


def moved(
    x: Tensor, masks: Tensor, rng: np.random.Generator, *, zoom: float, shift: float
) -> tuple[Tensor, Tensor]:
    """Pages (B, 3, h, w) and their masks (B, k, s, s), each page zoomed and moved by chance; what comes in at
    an edge goes on as the edge is, and has no mask. zoom, shift: the most, as shares of the size."""
    scale = torch.from_numpy(1 + zoom * rng.uniform(-1, 1, len(x))).float()
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = torch.from_numpy(2 * shift * rng.uniform(-1, 1, (len(x), 2))).float()
    theta = theta.to(x.device)
    seen = [
        functional.grid_sample(
            part,
            functional.affine_grid(theta, list(part.shape), align_corners=False),
            padding_mode=edge,
            align_corners=False,
        )
        for part, edge in ((x, "border"), (masks, "zeros"))
    ]
    return seen[0], seen[1]


def lesson_of(images: NDArray[np.uint8], masks: NDArray[np.uint8], truth: Truth) -> Lesson:
    """A lesson from pictures (n, h, h, 3), h at least 128, and masks (n, 6, s, s), s at least 16."""
    things = truth.things.shape[1]
    return Lesson(shrunk(images), averaged_down(np.asarray(masks[:, :things]), masks.shape[-1] // 16), truth)


def shrunk(images: NDArray[np.uint8], *, part: int = 100) -> NDArray[np.uint8]:
    """Area averages (n, 128, 128, 3) of pictures (n, h, w, 3)."""
    factor = images.shape[1] // SIZE
    pieces = []
    for start in range(0, len(images), part):
        planes = np.asarray(images[start : start + part]).transpose(0, 3, 1, 2)
        pieces.append(averaged_down(planes, factor).transpose(0, 2, 3, 1))
    return np.ascontiguousarray(np.concatenate(pieces))


@torch.no_grad()
def redrawn(
    vae: AutoencoderKL, images: NDArray[np.uint8], name: str, *, off: float = OFF, batch: int = 8
) -> Tensor:
    """Pages as the base would give them back: (n, h, w, 3) uint8 through the autoencoder, with latents a
    little off.

    images: (n, h, w, 3). name: of the chance that the noise follows from.
    """
    device = next(vae.parameters()).device
    chance = generator("redrawn", name)
    parts = []
    for start in range(0, len(images), batch):
        x = torch.from_numpy(np.array(images[start : start + batch])).permute(0, 3, 1, 2)
        x = x.to(device, memory_format=torch.channels_last).float() / 127.5 - 1
        with autocast(device):
            mean = vae.encode(x).latent_dist.mean
            level = off * torch.rand(len(x), 1, 1, 1, generator=chance) / vae.config.scaling_factor
            z = mean + (level * torch.randn(mean.shape, generator=chance)).to(mean)
            pixels = vae.decode(z).sample.float()
        parts.append(((pixels / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu())
    return torch.cat(parts)


@torch.no_grad()
def answers_right(model: Recogniser, lesson: Lesson, *, batch: int = 64) -> dict[str, float]:
    """The share of right answers on a lesson, by question: nouns (found of those there), imagined (of those
    not there), every trait, every whole, relation."""
    model.eval()
    right: dict[str, list[float]] = {}
    for start in range(0, len(lesson.images), batch):
        rows = torch.arange(start, min(start + batch, len(lesson.images)))
        truth = lesson.truth[rows]
        look = model.look(torch.from_numpy(lesson.images[rows.numpy()]).permute(0, 3, 1, 2).float() / 255)
        found = model.present(look) > 0
        right.setdefault("nouns", []).extend(found[truth.present].float().tolist())
        right.setdefault("imagined", []).append(float(found[~truth.present].float().mean()))
        row, thing = torch.where(truth.things != UNTOLD)
        chosen = Look(look.features[row], look.where[row], look.mean[row])
        for name, logits in model.traits(chosen, truth.things[row, thing]).items():
            _count(right, name, logits, truth.traits[name][row, thing])
        for name, logits in model.wholes(look).items():
            _count(right, name, logits, truth.wholes[name])
        pairs = torch.where((truth.things[:, 0] != UNTOLD) & (truth.things[:, 1] != UNTOLD))[0]
        two = Look(look.features[pairs], look.where[pairs], look.mean[pairs])
        logits = model.relations(two, truth.things[pairs, 0], truth.things[pairs, 1])
        _count(right, "relation", logits, truth.relation[pairs])
    return {name: sum(scores) / max(1, len(scores)) for name, scores in right.items()}


def _count(right: dict[str, list[float]], name: str, logits: Tensor, truth: Tensor) -> None:
    told = truth != UNTOLD
    right.setdefault(name, []).extend((logits.argmax(-1) == truth)[told].float().tolist())
