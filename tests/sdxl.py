"""A tiny random base in the exact layout of SDXL: the same blocks and module names, as a diffusers folder.

Its widths are few: text of 32 and 48, so d = 80; two transformer layers where SDXL has ten. Pictures are
64 x 64, latents 4 x 8 x 8. The second tokenizer pads with "!", as SDXL's does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tests.tiny import CARD, save_tiny_tokenizer, text_config, tiny_clip, tiny_vae

WIDTHS = (32, 48)
_SHALLOW: dict[str, Any] = {
    "layers_per_block": 1,
    "transformer_layers_per_block": (1, 1),
    "block_out_channels": (16, 32),
    "attention_head_dim": (2, 4),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}


def shallow_xl_unet() -> UNet2DConditionModel:
    """With two blocks of one layer, on either side of the middle."""
    return xl_unet(**_SHALLOW)


def xl_unet(**changed: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        **{
            "sample_size": 8,
            "block_out_channels": (16, 16, 32),
            "norm_num_groups": 8,
            "layers_per_block": 2,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": (2, 2, 4),
            "transformer_layers_per_block": (1, 1, 2),
            "use_linear_projection": True,
            "cross_attention_dim": sum(WIDTHS),
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": WIDTHS[1] + 6 * 8,
            **changed,
        }
    )


def save_tiny_sdxl(folder: Path, seed: int = 0, **changed: Any) -> Path:
    """Build the tiny SDXL in `folder`; the same seed gives the same weights. changed: of its UNet. Returns
    `folder`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = save_tiny_tokenizer(folder / "tokenizer")
        second: CLIPTokenizer = save_tiny_tokenizer(folder / "tokenizer_2")
        second.pad_token = "!"
        own, other = text_config(first, WIDTHS[0]), text_config(second, WIDTHS[1])
        other.hidden_act = "gelu"
        own.num_hidden_layers = other.num_hidden_layers = 3
        vae = tiny_vae(scaling_factor=0.13025)
        schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
        pipe = StableDiffusionXLPipeline(
            vae=vae,
            text_encoder=CLIPTextModel(own),
            text_encoder_2=CLIPTextModelWithProjection(other),
            tokenizer=first,
            tokenizer_2=second,
            unet=xl_unet(**changed),
            scheduler=EulerDiscreteScheduler(**schedule, steps_offset=1, timestep_spacing="leading"),
            add_watermarker=False,
        )
        pipe.save_pretrained(folder)
        tiny_clip(first).save_pretrained(folder / "clip")
        first.save_pretrained(folder / "clip")
    (folder / "perf-base.toml").write_text(CARD, encoding="utf-8")
    return folder


def save_small_sdxl(folder: Path) -> Path:
    """The same with one layer in each block, where their places matter. Returns `folder`."""
    return save_tiny_sdxl(folder, layers_per_block=1, transformer_layers_per_block=(1, 1, 1))


def save_shallow_sdxl(folder: Path) -> Path:
    """The same with the UNet of `shallow_xl_unet`, where the blocks do not matter: in half of the time.
    Returns `folder`."""
    return save_tiny_sdxl(folder, **_SHALLOW)
