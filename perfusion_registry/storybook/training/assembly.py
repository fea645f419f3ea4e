"""Assembling the embedded base: all trained parts as one standard diffusers folder in fp16."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor2_0
from transformers import CLIPModel, CLIPTokenizer

from perfusion_registry.storybook.training.denoiser import SCHEDULER, Model


def pipeline(vae: AutoencoderKL, model: Model, tokenizer: CLIPTokenizer) -> StableDiffusionPipeline:
    """The stock pipeline around trained parts, in the parts' own dtype."""
    unet = model.unet
    unet.set_attn_processor(AttnProcessor2_0())
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(**SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def save_pipeline(pipe: StableDiffusionPipeline, folder: Path) -> None:
    """Write the pipeline as fp16 safetensors."""
    half: Any = copy.deepcopy(pipe).to(torch.float16)
    half.vae.register_to_config(_name_or_path="")  # the maker's own folder means nothing to others
    half.save_pretrained(folder, safe_serialization=True)


def save_clip(clip: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write the CLIP model, its tokenizer and how it wants its pictures."""
    copy.deepcopy(clip).half().save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    size, middle = clip.config.vision_config.image_size, [0.5, 0.5, 0.5]
    pixels = {"crop_size": size, "image_mean": middle, "image_std": middle, "size": size}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels, indent=2) + "\n")
