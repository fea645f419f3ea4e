"""Training the text encoder and the denoiser together, from scratch, on latents of drawn pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from perfusion_registry.storybook2.training.attention import (
    Probe,
    grounding_loss,
    shares_inside,
    word_slots,
)
from perfusion_registry.storybook2.training.averages import EXPONENTS, PowerAverage
from perfusion_registry.storybook2.training.latents import Batch
from perfusion_registry.storybook2.training.locality import TokenCentres
from perfusion_registry.storybook2.training.norm import fuse_norms
from perfusion_registry.storybook2.training.optimizer import Optimizer
from perfusion_registry.storybook2.training.precision import autocast
from perfusion_registry.storybook2.training.seeds import generator, numbers, seed_of

TOKENS = 48
"""Positions of the text encoder."""
SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    # Without a last step of pure noise every picture is of middling brightness: no night, no outer space.
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 1,
}


@dataclass(frozen=True)
class DenoiserShape:
    """Sizes. vocabulary: tokens. channels: of the latents. widths: of the UNet at 16, 8 and 4. heads: of
    every attention. text: width of the text encoder."""

    vocabulary: int
    end: int
    start: int
    channels: int = 16
    widths: tuple[int, ...] = (96, 192, 192)
    heads: int = 4
    text: int = 256
    text_layers: int = 4

    def unet(self) -> dict[str, Any]:
        """The configuration of the `UNet2DConditionModel`, with cross-attention in every block."""
        levels = len(self.widths)
        return {
            "sample_size": 16,
            "in_channels": self.channels,
            "out_channels": self.channels,
            "down_block_types": ("CrossAttnDownBlock2D",) * levels,
            "up_block_types": ("CrossAttnUpBlock2D",) * levels,
            "block_out_channels": self.widths,
            "layers_per_block": 1,
            "cross_attention_dim": self.text,
            "attention_head_dim": self.heads,  # the number of heads, as in diffusers' Stable Diffusion
            "norm_num_groups": 16,
        }

    def text_encoder(self) -> CLIPTextConfig:
        """The configuration of the `CLIPTextModel`."""
        return CLIPTextConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.text,
            intermediate_size=4 * self.text,
            num_hidden_layers=self.text_layers,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            hidden_act="quick_gelu",
            bos_token_id=self.start,
            eos_token_id=self.end,
            pad_token_id=self.end,
            projection_dim=self.text,
            attn_implementation="eager",  # fused attention's backward pass is slow on CPUs
        )


@dataclass(frozen=True)
class DenoiserPlan:
    """What to train and how.

    widths: of the UNet at 16, 8 and 4. heads: of every attention. inside: extra weight of the error where
    something stands. grounding: of nouns' attention outside of their mask; that of attribute words counts
    half. spread: of what encodings tell of other words. contrast: of contrastive flow matching (2506.05350):
    it pushes from other pages' targets. times: "uniform" or "logit-normal" (Esser et al. 2024), the latter
    with logit_mean and logit_std and, for a share `uniform` of each batch, uniform all the same; in either
    case spread evenly over a batch. average_every: steps between updates of the averages.
    """

    widths: tuple[int, ...] = (96, 192, 192)
    heads: int = 4
    batch: int = 96
    matrix_rate: float = 1.2e-3
    rest_rate: float = 1e-3
    inside: float = 2.0
    grounding: float = 0.05
    spread: float = 0.03
    contrast: float = 0.0
    drop_caption: float = 0.1
    times: str = "uniform"
    logit_mean: float = 0.0
    logit_std: float = 1.0
    uniform: float = 0.0
    average_every: int = 4
    fused: bool = True
    compiled: bool = False
    seed: int = 0


class Pages(Protocol):
    """Where a training takes its pages from."""

    def batch(self, size: int, pages: int, rng: np.random.Generator) -> Batch:
        """`size` pages by chance, for a training that has seen `pages`."""


class Model(nn.Module):
    """Text encoder and denoiser."""

    def __init__(self, shape: DenoiserShape) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel(**shape.unet())
        self.text_encoder = CLIPTextModel(shape.text_encoder())

    def forward(self, x: Tensor, t: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted v (B, c, 16, 16) and encodings (B, n, d). x: noisy latents (B, c, 16, 16); t: times (B,);
        ids: (B, n)."""
        states = self.text_encoder(ids)[0]
        return self.unet(x, t, states, return_dict=False)[0], states


@dataclass(frozen=True)
class Noised:
    """Latents at some level of noise: x and the v to predict (B, c, 16, 16), times t (B,), and the share of
    signal a (B,)."""

    x: Tensor
    v: Tensor
    t: Tensor
    alpha: Tensor


class DenoiserLearner:
    """Text encoder and denoiser in training. empty: ids (48,) of the empty caption."""

    def __init__(
        self, pages: Pages, shape: DenoiserShape, plan: DenoiserPlan, empty: Tensor, *, device: str = "cpu"
    ) -> None:
        self.pages, self.shape, self.plan, self.device = pages, shape, plan, device
        torch.manual_seed(seed_of("denoiser", plan.seed))
        self.model = Model(shape).to(device)
        self.model.unet.to(memory_format=torch.channels_last)
        self.probe = Probe()
        self.model.unet.set_attn_processor(self.probe)
        self.optimizer = Optimizer(self.model, matrix_rate=plan.matrix_rate, rest_rate=plan.rest_rate)
        self.averages = [PowerAverage(self.optimizer.parameters, exponent) for exponent in EXPONENTS]
        self.centres = TokenCentres(shape.vocabulary, shape.text, device=device)
        self.alphas = DDIMScheduler(**SCHEDULER).alphas_cumprod.to(device)
        self.empty = empty.to(device)
        if plan.fused:
            fuse_norms(self.model.unet)
        self._run = torch.compile(self.model) if plan.compiled else self.model

    @property
    def batch(self) -> int:
        """Pages a step."""
        return self.plan.batch

    def step(self, number: int, pages: int, rate: float) -> dict[str, float]:
        """One step; measures the v error, the share of nouns' attention in their masks, the spread."""
        plan = self.plan
        rng = numbers("denoiser", plan.seed, number)
        batch = self.pages.batch(plan.batch, pages, rng).to(self.device)
        chance = generator("denoiser", plan.seed, number, device=self.device)
        torch.manual_seed(seed_of("denoiser", plan.seed, number))
        dropped = torch.from_numpy(rng.random(plan.batch) < plan.drop_caption).to(self.device)
        batch.ids[dropped] = self.empty
        batch.ground[dropped] = -1
        noised = noise(batch.z, sampled_times(plan, rng).to(self.device), self.alphas, chance)
        with self.probe.keeping() as kept, autocast(self.device):
            predicted, states = self._run(
                noised.x.contiguous(memory_format=torch.channels_last), noised.t, batch.ids
            )
        error = (predicted.float() - noised.v).square()
        cover = batch.slots.amax(1, keepdim=True)
        inside = (1 + plan.inside * cover) / (1 + plan.inside * cover.mean())
        weight = min_snr(noised.alpha)
        loss = ((error * inside).mean((1, 2, 3)) * weight).mean()
        words, telling = word_slots(batch.ground, batch.kind, batch.slots.shape[1])
        nouns, share = grounding_loss(kept, words, batch.slots)
        attributes, told = grounding_loss(kept, telling, batch.slots)
        spread = self.centres.spread(batch.ids, states)
        total = loss + plan.grounding * (nouns + 0.5 * attributes) + plan.spread * spread
        if plan.contrast:
            other = others_target(batch.z, noised, chance)
            total = (
                total - plan.contrast * ((predicted.float() - other).square().mean((1, 2, 3)) * weight).mean()
            )
        total.backward()
        self.optimizer.step(rate, clip=1.0)
        if (number + 1) % plan.average_every == 0:
            for average in self.averages:
                average.update(self.optimizer.parameters, number + 1)
        return {
            "v": float(error.detach().mean()),
            "noun": float(share),
            "attribute": float(told),
            "spread": float(spread.detach()),
        }

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser, averages, centres, and the shape that they have."""
        return {
            "weights": {name: value.contiguous() for name, value in self.model.state_dict().items()},
            "optimizer": self.optimizer.state_dict(),
            "averages": [average.state_dict() for average in self.averages],
            "centres": self.centres.state_dict(),
            "shape": {**asdict(self.shape), "widths": list(self.shape.widths)},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.model.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        for average, saved in zip(self.averages, state["averages"], strict=True):
            average.load_state_dict(saved)
        self.centres.load_state_dict(state["centres"])


def averaged(state: dict[str, Any], *, which: int | None = 0) -> Model:
    """The averaged weights of a learner's `state_dict` as a model in fp32, for reading; the latest ones where
    `which` is None."""
    shape = DenoiserShape(**{**state["shape"], "widths": tuple(state["shape"]["widths"])})
    model = Model(shape)
    means = {} if which is None else state["averages"][which]["values"]
    weights = {**state["weights"], **means}
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)


def sampled_times(plan: DenoiserPlan, rng: np.random.Generator) -> Tensor:
    """Times (B,) in 0..999, one from each of B shares of equal probability, in an order by chance."""
    order = rng.permutation(plan.batch)
    even = (order + rng.random(plan.batch)) / plan.batch
    if plan.times == "logit-normal":
        count = round(plan.uniform * plan.batch)
        plain = order < count
        normal = np.clip((even * plan.batch - count) / max(1, plan.batch - count), 1e-6, 1 - 1e-6)
        logit = plan.logit_mean + plan.logit_std * torch.special.ndtri(torch.from_numpy(normal))
        even = np.where(plain, even * plan.batch / max(1, count), logit.sigmoid().numpy())
    return torch.from_numpy(np.minimum(999, even * 1000).astype(np.int64))


def noise(z: Tensor, t: Tensor, alphas: Tensor, chance: torch.Generator) -> Noised:
    """Latents (B, c, h, w) with the noise of times t (B,). alphas: (1000,), the shares of signal."""
    extra = torch.randn(z.shape, generator=chance, device=z.device)
    alpha = alphas[t]
    signal, disturbance = (part.sqrt()[:, None, None, None] for part in (alpha, 1 - alpha))
    return Noised(signal * z + disturbance * extra, signal * extra - disturbance * z, t, alpha)


def others_target(z: Tensor, noised: Noised, chance: torch.Generator) -> Tensor:
    """The v (B, c, h, w) that the next page of the batch would have at each page's time, with a noise of its
    own."""
    extra = torch.randn(z.shape, generator=chance, device=z.device)
    signal, disturbance = (part.sqrt()[:, None, None, None] for part in (noised.alpha, 1 - noised.alpha))
    return signal * extra - disturbance * z.roll(1, 0)


def min_snr(alpha: Tensor, *, most: float = 5.0) -> Tensor:
    """Weights (B,) of the v error whose signal-to-noise ratio is clamped at `most` (Hang et al. 2023). alpha:
    (B,)."""
    snr = alpha / (1 - alpha).clamp_min(1e-8)
    return (snr + 1).clamp_max(most) / (snr + 1)


@torch.no_grad()
def held_back(
    model: Model, pages: Batch, alphas: Tensor, *, times: Sequence[int] = (100, 300, 500, 700, 900, 999)
) -> dict[str, float]:
    """What a model does on pages that it was not trained on, with a noise that is always the same.

    v: its mean error. own, other, uniform: on pages where two things are named, at a time of 600, the share
    of a noun's attention at 16 x 16 on its own thing, on the other, and what even attention would give.
    """
    model.eval()
    errors = []
    for k, time in enumerate(times):
        part = slice(k, None, len(times))
        noised = noise(
            pages.z[part], torch.full_like(pages.ids[part, 0], time), alphas, generator("held back", time)
        )
        predicted, _ = model(noised.x, noised.t, pages.ids[part])
        errors.append(float((predicted - noised.v).square().mean()))
    result = {"v": sum(errors) / len(errors)}
    words, _ = word_slots(pages.ground, pages.kind, pages.slots.shape[1])
    seen = words.any(-1) & (pages.slots.flatten(2).amax(-1) > 0.5)
    two = seen[:, 0] & seen[:, 1]
    if two.any():
        probe, before = Probe(), model.unet.attn_processors
        model.unet.set_attn_processor(probe)
        z, ids, words, masks = pages.z[two], pages.ids[two], words[two, :2], pages.slots[two, :2]
        noised = noise(z, torch.full_like(ids[:, 0], 600), alphas, generator("held back", "two"))
        with probe.keeping() as kept:
            model(noised.x, noised.t, ids)
        model.unet.set_attn_processor(before)
        own, other = (
            torch.stack([shares_inside(layer, words, m) for layer in kept if layer.shape[1] == 256]).mean()
            for m in (masks, masks.flip(1))
        )
        result.update(own=float(own), other=float(other), uniform=float(masks.mean()))
    return result
