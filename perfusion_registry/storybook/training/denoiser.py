"""Training the text encoder and the denoiser together, from scratch, on latents of drawn pages."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from perfusion_registry.storybook.captions import MAX_TOKENS
from perfusion_registry.storybook.training.checkpoint import load_checkpoint, save_checkpoint
from perfusion_registry.storybook.training.latents import Latents
from perfusion_registry.storybook.training.locality import TokenCentres
from perfusion_registry.storybook.training.norm import fuse_norms, unfuse_norms
from perfusion_registry.storybook.training.optimizer import MasterOptimizer
from perfusion_registry.storybook.training.precision import training_dtype
from perfusion_registry.storybook.training.schedule import Clock, plateau
from perfusion_registry.storybook.world import CATEGORIES

WIDTH = 256
"""Width of the text encoder's outputs."""
UNET = {
    "sample_size": 16,
    "in_channels": 8,
    "out_channels": 8,
    # Attention at 16 x 16 would take half of the time of a step and is spared.
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (96, 192, 192),
    "layers_per_block": 1,
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 4,  # the number of heads, as diffusers' Stable Diffusion configurations have it
    "norm_num_groups": 16,
}
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
class DenoiserPlan:
    """How long and how to train.

    seconds, steps: the budgets, as of `Clock`; the schedule is a function of their use.
    object_weight: extra loss inside subjects. map_weight: of the auxiliary map. spread_weight: of the penalty
    that keeps words where they are. start: the folder of a finished base whose networks to train on, where
    there is no checkpoint yet. text_frozen: leave the text encoder as it is, so that the base stays of its
    family. fused: compile the norms, which pays off after a minute.
    """

    seconds: float = math.inf
    batch: int = 128
    learning_rate: float = 1.5e-3
    object_weight: float = 3.0
    map_weight: float = 0.1
    spread_weight: float = 0.1
    drop_caption: float = 0.1
    decay_from: float = 0.75
    seed: int = 0
    compiled: bool = False
    start: Path | None = None
    text_frozen: bool = False
    fused: bool = True
    steps: float = math.inf


class Model(nn.Module):
    """Text encoder, UNet, and a head that reads from the UNet's features which category each cell shows.

    The head gives the features a meaning early (the map is exact, the world is drawn) and is dropped
    afterwards.
    """

    def __init__(self, tokenizer: CLIPTokenizer, unet: dict[str, Any] = UNET) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel(**unet)
        self.unet.set_attn_processor(AttnProcessor())  # SDPA's backward pass is slow on CPUs
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=4 * WIDTH,
                num_hidden_layers=4,
                num_attention_heads=4, max_position_embeddings=MAX_TOKENS, hidden_act="quick_gelu",
                bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id, projection_dim=WIDTH, attn_implementation="eager",
            )
        )  # fmt: skip
        self.map_head = nn.Conv2d(unet["block_out_channels"][1], len(CATEGORIES) + 1, 1)
        self._features: Tensor | None = None

    def _keep(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._features = output

    def take(self, base: Path) -> None:
        """The text encoder and the UNet of a finished base's folder, instead of random ones."""
        files = {"text_encoder": "model", "unet": "diffusion_pytorch_model"}
        for part, name in files.items():
            weights = load_file(base / part / f"{name}.safetensors")
            self.get_submodule(part).load_state_dict({k: v.float() for k, v in weights.items()})

    def forward(self, x: Tensor, t: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Predicted v (B, c, 16, 16), map logits (B, 9, 16, 16) and encodings (B, n, d).

        x: noisy latents (B, c, 16, 16); t: times (B,); ids: (B, n).
        """
        states = self.text_encoder(ids)[0]
        hook = self.unet.up_blocks[1].register_forward_hook(self._keep)
        v = self.unet(x, t, states, return_dict=False)[0]
        hook.remove()
        assert self._features is not None
        features, self._features = self._features, None
        return v, self.map_head(features), states


def train_denoiser(
    latents: Latents,
    tokenizer: CLIPTokenizer,
    plan: DenoiserPlan,
    folder: Path,
    *,
    device: str = "cpu",
    on_sheet: Callable[[Model, dict[str, Any]], None] | None = None,
    sheet_every: float = 900.0,
) -> Model:
    """Train, or continue from the checkpoint in `folder`; returns the averaged weights in fp32.

    Where there are matrix units, the weights live in bf16 with fp32 masters. The learning rate stays on a
    plateau and falls in the last part of the budget; the checkpoint from the end of the plateau is kept as
    `denoiser-plateau.pt`, so that a later and longer run continues from there.
    """
    torch.manual_seed(plan.seed)
    model = Model(tokenizer)
    if plan.start is not None:
        model.take(plan.start)
    model.text_encoder.requires_grad_(not plan.text_frozen)
    model.to(device)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = MasterOptimizer(model, matrix_rate=plan.learning_rate, rest_rate=plan.learning_rate * 0.8)
    dtype = training_dtype(device)
    model.to(dtype)
    model.unet.to(memory_format=torch.channels_last)
    averaged = [p for name, p in average.named_parameters() if name in optimizer.parameters]
    centres = TokenCentres(len(tokenizer), WIDTH, device=device)
    state: dict[str, Any] = {"step": 0, "samples": 0, "seconds": 0.0, "history": [], "average": None}
    if load_checkpoint(folder / "denoiser.pt", optimizer, state):
        average.load_state_dict(state["average"])
    if plan.fused:
        fuse_norms(model.unet)
    run = torch.compile(model) if plan.compiled else model
    alphas = DDIMScheduler(**SCHEDULER).alphas_cumprod.to(device)
    empty = torch.tensor(token_ids(tokenizer, [""])[0], device=device)
    generator = torch.Generator(device=device).manual_seed(plan.seed + 1 + state["step"])
    clock = Clock(plan.seconds, state["seconds"], steps=plan.steps)
    smooth: dict[str, float] = {}
    saved = sheeted = time.monotonic()
    plateau_kept = clock.progress(state["step"]) >= plan.decay_from

    def keep(name: str) -> None:
        state.update(seconds=clock.used(), average=average.state_dict())
        save_checkpoint(folder / name, optimizer, state)

    while (progress := clock.progress(state["step"])) < 1:
        if progress >= plan.decay_from and not plateau_kept:
            plateau_kept = True
            keep("denoiser-plateau.pt")
        z, ids, cover, target_map = latents.batch(plan.batch, generator)
        ids[torch.rand(plan.batch, generator=generator, device=device) < plan.drop_caption] = empty
        t = torch.randint(0, 1000, (plan.batch,), generator=generator, device=device)
        noise = torch.randn(z.shape, generator=generator, device=device)
        alpha = alphas[t][:, None, None, None]
        x = alpha.sqrt() * z + (1 - alpha).sqrt() * noise
        v = alpha.sqrt() * noise - (1 - alpha).sqrt() * z
        predicted, logits, encoded = run(x.to(dtype).contiguous(memory_format=torch.channels_last), t, ids)
        # min-SNR weights of v, clamped at 5, and more weight inside the subjects
        snr = alphas[t] / (1 - alphas[t])
        weight = (snr + 1).clamp_max(5) / (snr + 1)
        inside = (1 + plan.object_weight * cover) / (1 + plan.object_weight * cover.mean())
        error = ((predicted.float() - v) ** 2 * inside).mean((1, 2, 3))
        mapped = functional.cross_entropy(logits.float(), target_map, reduction="none").mean((1, 2))
        spread = centres.spread(ids, encoded)
        loss = (error * weight).mean() + plan.map_weight * mapped.mean()
        if not plan.text_frozen:
            loss = loss + plan.spread_weight * spread
        loss.backward()
        optimizer.step(plateau(progress, state["step"], warmup=100, decay_from=plan.decay_from), clip=1.0)
        state["step"] += 1
        state["samples"] += plan.batch
        if state["step"] % 4 == 0:
            decay = min(0.999, (state["step"] + 1) / (state["step"] + 20)) ** 4
            torch._foreach_lerp_([p.data for p in averaged], optimizer.values(), 1 - decay)
        for name, value in (("v", error.mean()), ("map", mapped.mean()), ("spread", spread)):
            value = float(value.detach())
            smooth[name] = value if name not in smooth else 0.99 * smooth[name] + 0.01 * value
        if state["step"] % 100 == 0 or state["step"] in (1, 2, 10):
            state["history"].append([state["samples"], *(round(value, 4) for value in smooth.values())])
            print(
                f"denoiser step {state['step']} {clock.used():.0f} s  v {smooth['v']:.4f}  "
                f"map {smooth['map']:.4f}  spread {smooth['spread']:.3f}  {state['samples']} pages, "
                f"{state['samples'] / clock.used():.0f}/s",
                flush=True,
            )
        now = time.monotonic()
        if now - saved > 180:
            saved = now
            keep("denoiser.pt")
        if on_sheet is not None and now - sheeted > sheet_every:
            sheeted = now
            on_sheet(average, state)
    keep("denoiser.pt")
    if plan.fused:
        unfuse_norms(model.unet)
    return average


def token_ids(tokenizer: CLIPTokenizer, captions: list[str]) -> list[list[int]]:
    """Captions as the ids (B, MAX_TOKENS) that the text encoder reads."""
    result: list[list[int]] = tokenizer(
        captions, padding="max_length", max_length=MAX_TOKENS, truncation=True
    ).input_ids
    return result
