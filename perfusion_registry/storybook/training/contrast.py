"""Training the small CLIP model that scores similarity on the embedded base."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

from perfusion_registry.storybook.captions import MAX_TOKENS
from perfusion_registry.storybook.training.denoiser import token_ids
from perfusion_registry.storybook.training.drawings import Shard
from perfusion_registry.storybook.training.optimizer import MasterOptimizer
from perfusion_registry.storybook.training.precision import autocast
from perfusion_registry.storybook.training.schedule import Clock, cosine

SIZE = 64
"""Pixels of the pictures that the image tower sees."""


def new_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """A CLIP model of about six million weights, untrained."""
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = CLIPVisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=5,
        num_attention_heads=4,
        image_size=SIZE,
        patch_size=8,
    )
    return CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=128)
    )


def train_clip(
    shards: list[Shard],
    tokenizer: CLIPTokenizer,
    *,
    seconds: float,
    start: CLIPModel | None = None,
    batch: int = 192,
    rate: float = 1e-3,
    seed: int = 0,
) -> CLIPModel:
    """Train for a budget of seconds, from `start` if given, with the symmetric contrastive loss; returns the
    model in fp32.

    Captions that are equal within a batch count as matches of each other's pictures.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = start.float().train() if start is not None else new_clip(tokenizer)
    optimizer = MasterOptimizer(model, matrix_rate=rate, rest_rate=rate)
    clock, step = Clock(seconds), 0
    while (progress := clock.progress(step)) < 1:
        shard = shards[int(rng.integers(len(shards)))]
        rows = np.sort(rng.choice(len(shard.images), batch, replace=False))
        x = functional.avg_pool2d(
            torch.from_numpy(shard.images[rows]).float() / 127.5 - 1, shard.images.shape[-1] // SIZE
        )
        if rng.random() < 0.5:
            x = x.flip(-1)
        captions = [shard.captions[int(r)] for r in rows]
        ids = torch.tensor(token_ids(tokenizer, captions))
        with autocast("cpu"):
            output = model(input_ids=ids, pixel_values=x)
        logits = output.logits_per_image.float()
        same = torch.tensor([[a == b for b in captions] for a in captions]).float()
        target = same / same.sum(1, keepdim=True)
        loss = functional.cross_entropy(logits, target) / 2 + functional.cross_entropy(logits.T, target) / 2
        loss.backward()
        optimizer.step(cosine(progress, step, warmup=50), clip=1.0)
        with torch.no_grad():
            nn.Module.get_parameter(model, "logit_scale").clamp_(max=4.6)
        step += 1
        if step % 50 == 0:
            hits = float((logits.argmax(1) == torch.arange(batch)).float().mean())
            print(
                f"clip step {step} {clock.used():.0f} s  loss {loss.item():.3f}  hits {hits:.2f}", flush=True
            )
    return model.eval()
