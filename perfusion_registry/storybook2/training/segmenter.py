"""Training a small segmenter in CLIPSeg's layout: a text says what, the answer is where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

from perfusion_registry.storybook2.training.contrast import varied
from perfusion_registry.storybook2.training.denoiser import TOKENS
from perfusion_registry.storybook2.training.optimizer import Optimizer
from perfusion_registry.storybook2.training.precision import autocast
from perfusion_registry.storybook2.training.seeds import numbers, seed_of


@dataclass(frozen=True)
class SegmenterPlan:
    """What to train and how. size: pixels of the pictures; patch: of the image tower. extract: the layers of
    the image tower that the decoder reads. absent: share of the questions that ask for what is not there."""

    size: int = 128
    patch: int = 8
    width: int = 128
    image_layers: int = 5
    text_layers: int = 3
    joint: int = 128
    extract: tuple[int, ...] = (1, 3, 4)
    reduced: int = 64
    batch: int = 32
    rate: float = 1e-3
    absent: float = 0.15
    seed: int = 0


@dataclass(frozen=True)
class Prompted:
    """Pages and what may be asked of them. images: (n, 3, s, s) uint8. masks: (n, 6, m, m) uint8. questions:
    ids (q, 48); page and slot (q,) of each."""

    images: Tensor
    masks: Tensor
    ids: Tensor
    page: Tensor
    slot: Tensor


class SegmenterLearner:
    """A segmenter in training on exact masks."""

    def __init__(
        self, lessons: Prompted, config: CLIPSegConfig, plan: SegmenterPlan, *, device: str = "cpu"
    ) -> None:
        self.lessons, self.plan, self.device = lessons, plan, device
        torch.manual_seed(seed_of("segmenter", plan.seed))
        self.model = CLIPSegForImageSegmentation(config).to(device)
        self.optimizer = Optimizer(self.model, matrix_rate=plan.rate, rest_rate=plan.rate)

    @property
    def batch(self) -> int:
        """Questions a step."""
        return self.plan.batch

    def step(self, number: int, pages: int, rate: float) -> dict[str, float]:
        """One step; measures the loss and the mean intersection over union of what is there."""
        rng = numbers("segmenter", self.plan.seed, number)
        torch.manual_seed(seed_of("segmenter", self.plan.seed, number))
        x, ids, target = questions(self.lessons, self.plan, rng)
        x = varied(x.to(self.device), rng)
        with autocast(self.device):
            logits = self.model(input_ids=ids.to(self.device), pixel_values=x).logits.float()
        logits = logits.view(len(x), *logits.shape[-2:])
        target = functional.interpolate(target[:, None].to(self.device), logits.shape[-2:], mode="area")[:, 0]
        loss = mask_loss(logits, target)
        loss.backward()
        self.optimizer.step(rate, clip=1.0)
        there = target.flatten(1).amax(1) > 0.5
        overlap = intersection_over_union(logits.detach()[there] > 0, target[there] > 0.5)
        return {"loss": float(loss.detach()), "iou": float(overlap.mean()) if there.any() else 0.0}

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser and layout."""
        return {
            "weights": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "config": self.model.config.to_json_string(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.model.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])


def segmenter_config(plan: SegmenterPlan, vocabulary: int, *, start: int, end: int) -> CLIPSegConfig:
    """The layout of a segmenter for a tokenizer of so many tokens, and the ids of its first and last."""
    return CLIPSegConfig(
        text_config={
            "vocab_size": vocabulary,
            "max_position_embeddings": TOKENS,
            "bos_token_id": start,
            "eos_token_id": end,
            "pad_token_id": end,
            "hidden_size": plan.width,
            "intermediate_size": 4 * plan.width,
            "num_hidden_layers": plan.text_layers,
            "num_attention_heads": 4,
        },
        vision_config={
            "hidden_size": plan.width,
            "intermediate_size": 4 * plan.width,
            "num_hidden_layers": plan.image_layers,
            "num_attention_heads": 4,
            "image_size": plan.size,
            "patch_size": plan.patch,
        },
        projection_dim=plan.joint,
        extract_layers=list(plan.extract),
        reduce_dim=plan.reduced,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=4 * plan.reduced,
        conditional_layer=0,
        use_complex_transposed_convolution=True,
    )


def questions(
    lessons: Prompted, plan: SegmenterPlan, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures (B, 3, s, s) in -1..1, what is asked (B, 48), and the answers (B, m, m) in 0..1.

    A question put to another page than its own has an empty answer only where that page does not show what it
    asks for: `lessons` says which slots answer to the same words.
    """
    asked = torch.from_numpy(rng.integers(0, len(lessons.ids), plan.batch))
    pages, slots, ids = lessons.page[asked], lessons.slot[asked], lessons.ids[asked].long()
    masks = lessons.masks[pages, slots].float() / 255
    astray = torch.from_numpy(rng.random(plan.batch) < plan.absent)
    if astray.any():
        elsewhere = torch.from_numpy(rng.integers(0, len(lessons.images), int(astray.sum())))
        known = {(int(p), i.numpy().tobytes()) for p, i in zip(lessons.page, lessons.ids, strict=True)}
        for row, page in zip(torch.where(astray)[0].tolist(), elsewhere.tolist(), strict=True):
            if (page, lessons.ids[asked[row]].numpy().tobytes()) not in known:
                pages[row], masks[row] = page, 0
    x = lessons.images[pages].float() / 127.5 - 1
    return x, ids, masks


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of the pixels plus Dice's loss, of logits and targets (B, h, w)."""
    chance = logits.sigmoid()
    overlap = 2 * (chance * target).sum((1, 2)) + 1
    dice = 1 - overlap / (chance.sum((1, 2)) + target.sum((1, 2)) + 1)
    return functional.binary_cross_entropy_with_logits(logits, target) + dice.mean()


def intersection_over_union(found: Tensor, truth: Tensor) -> Tensor:
    """Of boolean masks (B, h, w): (B,); one where both are empty."""
    both = (found & truth).sum((1, 2)).float()
    either = (found | truth).sum((1, 2)).float()
    return torch.where(either > 0, both / either.clamp_min(1), torch.ones_like(both))
