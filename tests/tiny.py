"""A tiny random base in the layout of Stable Diffusion 1.5: the same kinds of blocks and names of modules.

There are fewer: one block that attends and one that does not on either side of the middle, one layer in each.
Modules are what a test waits for.

It is a standard diffusers folder with a CLIP model and a card beside it, built from a seed in about a second.
Its tokenizer takes any text, and every word of `WORDS` is one token. Pictures are 64 x 64, latents 4 x 8 x 8.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
)

if TYPE_CHECKING:
    from perfusion_registry.base import Base

WORDS = tuple(
    word
    for line in (
        "a an the of in on at with and photo picture good image painting watercolor oil photograph shown",
        "teddy teapot cat dog pot chair boat sailing sitting snow sea fire garden table hat",
        "red blue gold glass yarn",
    )
    for word in line.split()
)
START, END = "<|startoftext|>", "<|endoftext|>"
CARD = """\
[train]
steps = 4
batch = 2

[render]
steps = 2
guidance = 2.0
width = 64
height = 64
"""


def save_tiny_tokenizer(folder: Path) -> CLIPTokenizer:
    """Save a byte-level BPE, in which each of WORDS is one token, as a CLIPTokenizer of 77 positions."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = learn_merges(WORDS)
    pieces = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(pair) for pair in merges)]
    vocab = {piece: index for index, piece in enumerate(dict.fromkeys([*pieces, START, END]))}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)
    tokenizer.save_pretrained(folder)
    # The two files of the original layout, which older readers look for.
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    lines = "".join(f"{left} {right}\n" for left, right in merges)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{lines}", encoding="utf-8")
    return tokenizer


def learn_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Byte pair encoding; `tokenizers` has a trainer, but it breaks ties differently from run to run."""
    split = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for parts in split for pair in pairwise(parts)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for parts in split:
            at = 0
            while at < len(parts) - 1:
                if (parts[at], parts[at + 1]) == best:
                    parts[at : at + 2] = ["".join(best)]
                at += 1
    return merges


def text_config(tokenizer: CLIPTokenizer, width: int = 32) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def tiny_unet(**changed: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        **{
            "sample_size": 8,
            "in_channels": 4,
            "out_channels": 4,
            "block_out_channels": (32, 64),
            "layers_per_block": 1,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "cross_attention_dim": 32,
            "attention_head_dim": 8,
            **changed,
        }
    )


def deeper_unet() -> UNet2DConditionModel:
    """With a block more on either side of the middle: layers of more widths, in blocks at more depths."""
    return tiny_unet(
        block_out_channels=(32, 64, 64),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )


def tiny_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        projection_dim=32,
    )
    texts = text_config(tokenizer)
    return CLIPModel(
        CLIPConfig(text_config=texts.to_dict(), vision_config=vision.to_dict(), projection_dim=32)
    )


def tiny_vae(**changed: Any) -> AutoencoderKL:
    return AutoencoderKL(
        **{
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "block_out_channels": (8, 8, 16, 16),
            "layers_per_block": 1,
            "latent_channels": 4,
            "norm_num_groups": 8,
            "sample_size": 64,
            **changed,
        }
    )


def save_tiny_base(
    folder: Path, seed: int = 0, make_unet: Callable[[], UNet2DConditionModel] = tiny_unet
) -> Path:
    """Build the tiny base in `folder`; the same seed gives the same weights. Returns `folder`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = save_tiny_tokenizer(folder / "tokenizer")
        vae = tiny_vae()
        pipe = StableDiffusionPipeline(
            vae=vae,
            text_encoder=CLIPTextModel(text_config(tokenizer)),
            tokenizer=tokenizer,
            unet=make_unet(),
            scheduler=PNDMScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                skip_prk_steps=True,
                steps_offset=1,
                set_alpha_to_one=False,
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipe.save_pretrained(folder)
        torch.manual_seed(seed + 10)  # with which what it sees is somewhat like what it reads
        tiny_clip(tokenizer).save_pretrained(folder / "clip")
        tokenizer.save_pretrained(folder / "clip")
    (folder / "perf-base.toml").write_text(CARD, encoding="utf-8")
    return folder


def fine_tuned(base: Path, folder: Path) -> Path:
    """A copy of a base, its denoiser moved a little everywhere, as fine-tuning would: of the same family."""
    shutil.copytree(base, folder)
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    noise = torch.Generator().manual_seed(0)
    moved = {
        name: tensor + 0.3 * tensor.std(correction=0) * torch.randn(tensor.shape, generator=noise)
        for name, tensor in load_file(path).items()
    }
    save_file(moved, path)
    return folder


def state_of(base: Base) -> dict[str, str]:
    """All that a test could leave changed of a loaded base, by name: modules and their modes, tensors and
    gradients, configurations."""
    state: dict[str, str] = {}
    for name, part in base.pipe.components.items():
        state[f"{name}.config"] = str(getattr(part, "config", None))
        if not isinstance(part, torch.nn.Module):
            continue
        for path, module in part.named_modules():
            hooks = len(module._forward_hooks) + len(module._forward_pre_hooks)
            state[f"{name}.{path}"] = f"{type(module).__qualname__} {module.training} {hooks}"
        for path, tensor in (*part.named_parameters(), *part.named_buffers()):
            numbers = hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()
            state[f"{name}.{path}"] = f"{numbers} {tensor.requires_grad} {tensor.grad is not None}"
    return state


def same_picture(ours: Any, theirs: Any) -> bool:
    """Whether two pictures (h, w, 3) in 0..255 differ by one level at most: as much as the same products in
    tensors of other shapes round otherwise, on some processors."""
    return bool(np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 1)
