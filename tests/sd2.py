"""A tiny random base in the layout of Stable Diffusion 2.1: it answers velocities, and its projections are
linear layers.

Its tokenizer, autoencoder and CLIP model are those of `tests.tiny`. Its text encoder is OpenCLIP's as
transformers has it, and it has more heads where it is wider, as SD 2 has.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from tests.tiny import save_tiny_base, text_config, tiny_unet


def save_tiny_sd2(folder: Path, seed: int = 0) -> Path:
    """Build the tiny SD 2.1 in `folder`; the same seed gives the same weights. Returns `folder`."""
    save_tiny_base(folder, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        told = {**tiny_unet().config, "attention_head_dim": (4, 8), "use_linear_projection": True}
        UNet2DConditionModel.from_config(told).save_pretrained(folder / "unet")
        text = text_config(CLIPTokenizer.from_pretrained(folder / "tokenizer"))
        text.hidden_act = "gelu"
        CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    more = {"prediction_type": "v_prediction", "clip_sample": False, "set_alpha_to_one": False}
    DDIMScheduler(**schedule, **more, steps_offset=1).save_pretrained(folder / "scheduler")
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("PNDMScheduler", "DDIMScheduler"))
    return folder
