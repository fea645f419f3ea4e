"""Training the small CLIP model that scores how well a picture and a caption go together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from perfusion_registry.storybook2.training.denoiser import TOKENS, DenoiserShape
from perfusion_registry.storybook2.training.optimizer import Optimizer
from perfusion_registry.storybook2.training.precision import autocast
from perfusion_registry.storybook2.training.seeds import numbers, seed_of


@dataclass(frozen=True)
class ClipPlan:
    """What to train and how. size: pixels of the pictures that the image tower sees; patch: of its patches.
    width: of both towers; joint: of the space that they meet in."""

    size: int = 96
    patch: int = 12
    width: int = 192
    image_layers: int = 5
    text_layers: int = 3
    joint: int = 128
    batch: int = 192
    rate: float = 1e-3
    seed: int = 0


@dataclass(frozen=True)
class Lessons:
    """Pages to learn from. images: (n, 3, s, s) uint8, at the size that the model sees. ids: (n, k, 48),
    wordings."""

    images: Tensor
    ids: Tensor


class ClipLearner:
    """A CLIP model in training with the symmetric contrastive loss."""

    def __init__(
        self, lessons: Lessons, tokens: DenoiserShape, plan: ClipPlan, *, device: str = "cpu"
    ) -> None:
        self.lessons, self.plan, self.device = lessons, plan, device
        torch.manual_seed(seed_of("clip", plan.seed))
        self.model = new_clip(tokens, plan).to(device)
        self.optimizer = Optimizer(self.model, matrix_rate=plan.rate, rest_rate=plan.rate)

    @property
    def batch(self) -> int:
        """Pages a step."""
        return self.plan.batch

    def step(self, number: int, pages: int, rate: float) -> dict[str, float]:
        """One step; measures the loss and how many captions found their own page in the batch."""
        rng = numbers("clip", self.plan.seed, number)
        torch.manual_seed(seed_of("clip", self.plan.seed, number))
        rows = torch.from_numpy(rng.choice(len(self.lessons.images), self.plan.batch, replace=False))
        words = torch.from_numpy(rng.integers(0, self.lessons.ids.shape[1], self.plan.batch))
        x = varied(self.lessons.images[rows].to(self.device).float() / 127.5 - 1, rng)
        ids = self.lessons.ids[rows, words].long().to(self.device)
        with autocast(self.device):
            logits = self.model(input_ids=ids, pixel_values=x).logits_per_image.float()
        loss = contrastive_loss(logits, ids)
        loss.backward()
        self.optimizer.step(rate, clip=1.0)
        with torch.no_grad():
            nn.Module.get_parameter(self.model, "logit_scale").clamp_(max=4.6)
        found = float((logits.detach().argmax(0).cpu() == torch.arange(self.plan.batch)).float().mean())
        return {"loss": float(loss.detach()), "found": found}

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimiser."""
        return {"weights": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.model.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])


def new_clip(tokens: DenoiserShape, plan: ClipPlan) -> CLIPModel:
    """A CLIP model of some five million weights, untrained."""
    text = CLIPTextConfig(
        vocab_size=tokens.vocabulary,
        hidden_size=plan.width,
        intermediate_size=4 * plan.width,
        num_hidden_layers=plan.text_layers,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=tokens.start,
        eos_token_id=tokens.end,
        pad_token_id=tokens.end,
    )
    vision = CLIPVisionConfig(
        hidden_size=plan.width,
        intermediate_size=4 * plan.width,
        num_hidden_layers=plan.image_layers,
        num_attention_heads=4,
        image_size=plan.size,
        patch_size=plan.patch,
    )
    return CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=plan.joint)
    )


def contrastive_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """The symmetric cross-entropy of pictures and captions; equal captions match each other's pictures.

    logits: (B, B), pictures by captions. ids: (B, n) of the captions.
    """
    same = (ids[:, None] == ids[None]).all(-1).float()
    target = same / same.sum(1, keepdim=True)
    return functional.cross_entropy(logits, target) / 2 + functional.cross_entropy(logits.T, target) / 2


def varied(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Pictures (B, 3, s, s) in -1..1, half of the batches blurred, all a little brighter or darker and
    noised.

    Never mirrored: their captions may say left and right.
    """
    if rng.random() < 0.5:
        x = functional.interpolate(functional.avg_pool2d(x, 2), scale_factor=2.0, mode="bilinear")
    level = torch.from_numpy(rng.uniform(-0.1, 0.1, (len(x), 1, 1, 1)).astype(np.float32)).to(x.device)
    return (x + level + torch.randn_like(x) * 0.08 * float(rng.random())).clamp(-1, 1)


@torch.no_grad()
def captions_found(model: CLIPModel, lessons: Lessons, *, among: int = 192) -> float:
    """The share of captions that find their own page among `among`, in groups of so many pages in order."""
    hits, total = 0, 0
    for start in range(0, len(lessons.images) - among + 1, among):
        part = slice(start, start + among)
        x = lessons.images[part].float() / 127.5 - 1
        logits = model(input_ids=lessons.ids[part, 0].long(), pixel_values=x).logits_per_text
        hits += int((logits.argmax(1) == torch.arange(among)).sum())
        total += among
    return hits / max(1, total)
