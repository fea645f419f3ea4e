"""How large a concept is on a base of full size: the file itself, of ones, without weights of any base."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import CosmosTransformer3DModel, PixArtTransformer2DModel, UNet2DConditionModel

from perfusion_registry.artifact import Artifact, save_artifact
from perfusion_registry.base.layouts import LAYOUTS


@dataclass(frozen=True)
class FullSize:
    """denoiser: its class. told: its configuration, or the folder that has it. tables: widths of the token
    embeddings. d: of what K and V read."""

    denoiser: type
    told: Mapping[str, Any] | Path
    tables: tuple[int, ...]
    d: int

    def layers(self) -> dict[str, int]:
        """The width of the values of each layer that reads text, by its path."""
        told = self.told
        if isinstance(told, Path):
            told = json.loads((told / "unet" / "config.json").read_text("utf-8"))
        with torch.device("meta"):
            model: Any = self.denoiser.from_config(dict(told))  # type: ignore[attr-defined]
        found = [(path, module) for path, module in model.named_modules() if path.endswith(".attn2.to_v")]
        return {path.removesuffix(".to_v"): module.out_features for path, module in found}

    def bytes_of(self, like: Artifact) -> int:
        """Of a concept with the card of another, everything included but a residual."""
        tensors = {"target_input": torch.ones(self.d), "target_input_dual": torch.ones(self.d)}
        for number, width in enumerate(self.tables):
            tensors[f"embedding.{number + 1}" if number else "embedding"] = torch.zeros(width)
        for path, width in self.layers().items():
            tensors[f"offset.{path}"] = torch.zeros(width).half()
        plain = like.card.train.model_copy(update={"residual_rank": 0.0})
        return len(save_artifact(Artifact(like.card.model_copy(update={"train": plain}), tensors)))


_PIXART = {"num_attention_heads": 16, "attention_head_dim": 72, "num_layers": 28, "cross_attention_dim": 1152}
_COSMOS = {"num_attention_heads": 16, "attention_head_dim": 128, "num_layers": 28, "text_embed_dim": 1024}
_UNETS = [layout.folder for layout in LAYOUTS[1:]]
FULL_SIZES = {
    "SD 1": FullSize(UNet2DConditionModel, _UNETS[0], (768,), 768),
    "SD 2": FullSize(UNet2DConditionModel, _UNETS[1], (1024,), 1024),
    "SDXL": FullSize(UNet2DConditionModel, _UNETS[2], (768, 1280), 2048),
    "PixArt-Sigma": FullSize(PixArtTransformer2DModel, {**_PIXART, "caption_channels": 4096}, (4096,), 1152),
    "Anima": FullSize(CosmosTransformer3DModel, _COSMOS, (1024, 1024), 1024),
}
