"""LoRAs of a tiny base with random numbers, as diffusers writes them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
TEXT = ("q_proj", "v_proj", "out_proj")


def save_lora(
    pipe: Any,
    file: Path,
    *,
    seed: int = 0,
    rank: int = 2,
    parts: Collection[str] = ATTENTION,
    text: bool = True,
    size: float = 1.0,
    metadata: dict[str, str] | None = None,
) -> Path:
    """A LoRA of a pipeline's UNet and text encoders. parts: the ends of the paths that it changes. size: of
    what it adds, beside what the module's weights give."""
    tensors: dict[str, torch.Tensor] = {}
    for component in ("unet", "text_encoder", "text_encoder_2") if text else ("unet",):
        model = getattr(pipe, component, None)
        if model is None:
            continue
        dice = torch.Generator().manual_seed(seed)
        ends = tuple(parts) if component == "unet" else TEXT
        for path, module in model.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d) and path.endswith(tuple(f".{end}" for end in ends)):
                name = path if component == "unet" or path.startswith("text_model.") else f"text_model.{path}"
                tensors |= _factors(f"{component}.{name}", module, rank, size, dice)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file, metadata or {})
    return file


def _factors(
    place: str, module: nn.Linear | nn.Conv2d, rank: int, size: float, dice: torch.Generator
) -> dict[str, torch.Tensor]:
    out, into, *kernel = module.weight.shape
    down = torch.randn(rank, into, *kernel, generator=dice)
    up = torch.randn(out, rank, *(1 for _ in kernel), generator=dice)
    scale = size * float(module.weight.detach().norm() / (up.flatten(1) @ down.flatten(1)).norm())
    return {f"{place}.lora_A.weight": down, f"{place}.lora_B.weight": up * scale}
