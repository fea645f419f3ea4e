"""Artifacts made up for the tests, among them one with the exact shapes of Stable Diffusion 1.5."""

from __future__ import annotations

from typing import Any

import torch

from perfusion_registry.artifact import Artifact, ConceptCard
from perfusion_registry.methods.perfusion.options import Built, RenderOptions, TrainOptions


def card(**changes: Any) -> ConceptCard:
    values: dict[str, Any] = {
        "name": "teddy",
        "version": "1.0.0",
        "supercategory": "teddy",
        "family": "f" * 64,
        "recipe_digest": "d" * 64,
        "base": "storybook",
        "train": TrainOptions(),
        "render": RenderOptions(),
        "built": Built(covariance="c" * 64, step=150),
        "schema_version": 1,
        "scores": {"image": 0.81, "text": 0.74, "harmonic": 0.77},
    }
    return ConceptCard(**{**values, **changes})


def sd15_layers() -> dict[str, int]:
    """Every cross-attention of Stable Diffusion 1.5's UNet with its V width: 16 layers, 12,480 in all."""
    widths = {"down_blocks.0": 320, "down_blocks.1": 640, "down_blocks.2": 1280, "mid_block": 1280}
    widths |= {"up_blocks.1": 1280, "up_blocks.2": 640, "up_blocks.3": 320}
    counts = {block: 2 if block.startswith("down") else 3 for block in widths} | {"mid_block": 1}
    return {
        f"{block}.attentions.{number}.transformer_blocks.0.attn2": width
        for block, width in widths.items()
        for number in range(counts[block])
    }


def artifact(layers: dict[str, int] | None = None, d: int = 8, **changes: Any) -> Artifact:
    random = torch.Generator().manual_seed(0)
    target = torch.randn(d, generator=random)
    tensors = {
        "embedding": torch.randn(d, generator=random),
        "target_input": target,
        "target_input_dual": 0.5 * target,
    }
    for path, width in (layers or {"mid_block.attn2": 6, "up_blocks.1.attn2": 4}).items():
        tensors[f"output.{path}"] = torch.randn(width, generator=random)
    return Artifact(card(**changes), tensors)
