"""A tiny random base in the exact layout of PixArt-Sigma, with its modules and components, as a folder.

T5's states are 24 wide and d is 32. Pictures are 64 x 64, latents 4 x 8 x 8, patches 2 x 2. Its tokenizer has
each of `WORDS` as one token behind a space, and letters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
)
from torch import nn
from transformers import T5Config, T5EncoderModel, T5TokenizerFast

from tests.tiny import CARD, WORDS, save_tiny_tokenizer, tiny_clip, tiny_vae


def t5_tokenizer(words: tuple[str, ...] = WORDS) -> T5TokenizerFast:
    """T5's own kind, of a small vocabulary."""
    scores = {"<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0, "▁": -5.0}
    scores |= {f"▁{word}": -3.0 for word in (*words, "pots")}
    scores |= dict.fromkeys("abcdefghijklmnopqrstuvwxyz'.,!()*-é", -8.0)
    return T5TokenizerFast(vocab=list(scores.items()), extra_ids=4)


def pixart_transformer(**changed: Any) -> PixArtTransformer2DModel:
    model = PixArtTransformer2DModel(
        **{
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "in_channels": 4,
            "out_channels": 8,
            "num_layers": 2,
            "cross_attention_dim": 32,
            "sample_size": 8,
            "caption_channels": 24,
            "use_additional_conditions": False,
            **changed,
        }
    )
    for linear in model.modules():
        if isinstance(linear, nn.Linear) and linear.bias is not None:
            nn.init.normal_(linear.bias, std=0.1)  # a bias of zero would show nothing
    with torch.no_grad():
        for block in model.transformer_blocks:
            block.attn2.to_q.weight *= 8  # or every place would look at all words alike
    return model


def save_tiny_pixart(folder: Path, seed: int = 0, **changed: Any) -> Path:
    """Build the tiny PixArt-Sigma in `folder`; the same seed gives the same weights. changed: of its
    transformer. Returns `folder`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = t5_tokenizer()
        text = T5Config(
            vocab_size=len(tokenizer), d_model=24, d_kv=8, d_ff=48, num_layers=2, num_heads=3,
            feed_forward_proj="gated-gelu", decoder_start_token_id=0,
        )  # fmt: skip
        vae = tiny_vae(scaling_factor=0.13025)
        pipe = PixArtSigmaPipeline(
            tokenizer=tokenizer,
            text_encoder=T5EncoderModel(text),
            vae=vae,
            transformer=pixart_transformer(**changed),
            scheduler=DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02),
        )
        pipe.save_pretrained(folder)
        tiny_clip(save_tiny_tokenizer(folder / "clip")).save_pretrained(folder / "clip")
    (folder / "perf-base.toml").write_text(CARD, encoding="utf-8")
    return folder
