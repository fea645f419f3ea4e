"""Putting trained parts together: a stock pipeline, and the diffusers folder that ships, in fp16."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
)
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor
from transformers import CLIPModel, CLIPSegForImageSegmentation, CLIPTokenizer

from perfusion_registry.storybook2.training.denoiser import SCHEDULER, Model

Sampler = Literal["ddim", "sde"]
"""How pictures are drawn: without chance after the first noise, or with fresh noise in every step
(DPM-Solver++ as a stochastic equation), which mends what earlier steps got wrong."""


def scheduler_of(sampler: Sampler) -> Any:
    """The sampler as a scheduler of the noise that the denoiser was trained on."""
    ddim = DDIMScheduler(**SCHEDULER)
    if sampler == "ddim":
        return ddim
    return DPMSolverMultistepScheduler.from_config(ddim.config, algorithm_type="sde-dpmsolver++")


def pipeline(
    vae: AutoencoderKL, model: Model, tokenizer: CLIPTokenizer, *, sampler: Sampler = "ddim"
) -> StableDiffusionPipeline:
    """The stock pipeline around trained parts, in the parts' own dtype."""
    model.unet.set_attn_processor(AttnProcessor2_0())
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=scheduler_of(sampler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn_by(
    pipe: StableDiffusionPipeline,
    prompts: list[str],
    *,
    steps: int = 25,
    guidance: float = 4.0,
    seed: int = 0,
    batch: int = 16,
) -> Tensor:
    """Pictures (B, 3, 256, 256) in 0..1, each with the seed `seed` plus its place in the list."""
    pictures = []
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        chances = [torch.Generator().manual_seed(seed + start + k) for k in range(len(part))]
        result = pipe(
            part, num_inference_steps=steps, guidance_scale=guidance, generator=chances, output_type="pt"
        )
        pictures.append(result.images.float().cpu())
    return torch.cat(pictures)


def save_pipeline(pipe: StableDiffusionPipeline, folder: Path) -> None:
    """Write the pipeline as fp16 safetensors."""
    half: Any = copy.deepcopy(pipe).to(torch.float16)
    for part in (half.vae, half.unet):
        part.register_to_config(_name_or_path="")  # the maker's own folder means nothing to others
    half.save_pretrained(folder, safe_serialization=True)


def save_reader(
    model: CLIPModel | CLIPSegForImageSegmentation, tokenizer: CLIPTokenizer, folder: Path
) -> None:
    """Write a CLIP model or a segmenter in fp16, with its tokenizer and how it wants its pictures."""
    copy.deepcopy(model).half().save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    size, middle = model.config.vision_config.image_size, [0.5, 0.5, 0.5]
    pixels = {"crop_size": size, "image_mean": middle, "image_std": middle, "size": size}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels, indent=2) + "\n")
