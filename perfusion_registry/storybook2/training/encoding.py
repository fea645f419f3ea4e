"""From drawings to what the denoiser trains on: latents, tokens, and where each token's thing is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import CLIPTokenizer

from perfusion_registry.storybook2.training.denoiser import TOKENS
from perfusion_registry.storybook2.training.drawings import Drawing, Wording
from perfusion_registry.storybook2.training.latents import Encoded
from perfusion_registry.storybook2.training.linear import LinearEncoder
from perfusion_registry.storybook2.training.work import move_into_place


def tokenised(
    tokenizer: CLIPTokenizer, wordings: Sequence[Wording]
) -> tuple[NDArray[np.int16], NDArray[np.int8], NDArray[np.int8]]:
    """Ids, slots and kinds (n, 48) of captions; a token's slot is that of the span it lies in, or -1."""
    told = tokenizer(
        [wording.text for wording in wordings],
        padding="max_length",
        max_length=TOKENS,
        truncation=True,
        return_offsets_mapping=True,
    )
    ids = np.asarray(told["input_ids"], np.int16)
    ground = np.full(ids.shape, -1, np.int8)
    kind = np.zeros(ids.shape, np.int8)
    for row, (wording, offsets) in enumerate(zip(wordings, told["offset_mapping"], strict=True)):
        for token, (start, end) in enumerate(offsets):
            for first, last, slot, sort in wording.spans:
                if start < end and first <= start and end <= last:
                    ground[row, token], kind[row, token] = slot, sort
    return ids, ground, kind


@torch.no_grad()
def latents_of(encoder: LinearEncoder, images: NDArray[np.uint8], *, batch: int = 16) -> NDArray[np.float16]:
    """The latents (n, c, 16, 16), scaled to unit deviation. images: (n, 256, 256, 3)."""
    latents = []
    for start in range(0, len(images), batch):
        x = torch.from_numpy(np.array(images[start : start + batch])).permute(0, 3, 1, 2)
        latents.append((encoder.encode(x.float() / 127.5 - 1) * encoder.scale).half().numpy())
    return np.concatenate(latents)


def encoded(drawing: Drawing, encoder: LinearEncoder, tokenizer: CLIPTokenizer) -> Encoded:
    """A drawn shard as the denoiser sees it."""
    words = len(drawing.wordings[0])
    flat = [wording for wordings in drawing.wordings for wording in wordings]
    ids, ground, kind = tokenised(tokenizer, flat)
    shape = (-1, words, TOKENS)
    z = latents_of(encoder, drawing.images)
    return Encoded(z, drawing.slots(), ids.reshape(shape), ground.reshape(shape), kind.reshape(shape))


def write_encoded(target: Path, shard: Encoded) -> None:
    """Write a shard as the folder `target`, which appears whole or not at all."""
    beside = target.with_name(f"partial-{target.name}-{os.getpid()}")
    beside.mkdir(parents=True, exist_ok=True)
    for name, array in vars(shard).items():
        np.save(beside / f"{name}.npy", array)
    move_into_place(beside, target)
