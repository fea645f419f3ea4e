"""A base in memory: the diffusers pipeline, its K and V bank, and the CLIP model that scores its pictures."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from perfusion_registry.base.bank import Bank
from perfusion_registry.base.description import BaseDescription
from perfusion_registry.base.scorer import Scorer


@dataclass(frozen=True)
class Base:
    """A loaded base, in evaluation mode, with every parameter frozen.

    pipe: the `StableDiffusionPipeline`. dtype: of the weights. compute_dtype: what `autocast` computes in; equal to
    `dtype` where autocast does nothing. scorer: the CLIP model beside the base, or None.
    """

    pipe: Any
    bank: Bank
    device: torch.device
    dtype: torch.dtype
    compute_dtype: torch.dtype
    description: BaseDescription
    scorer: Scorer | None

    def autocast(self) -> AbstractContextManager[Any]:
        """The context to run the UNet and the VAE in."""
        raise NotImplementedError


def load_base(
    description: BaseDescription,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    compute_dtype: str | torch.dtype = "auto",
) -> Base:
    """Load a described base. Only safetensors are read, and nothing is downloaded.

    device: "auto" takes cuda, then mps, then cpu. dtype: of the weights; "auto" is bf16 (or fp16) on cuda, fp16 on mps,
    fp32 on cpu. compute_dtype: "auto" is `dtype`, except bf16 on a cpu that multiplies bf16 natively.
    Raises PerfError when the files are missing or broken, or the base is of a kind that cannot be drawn with.
    """
    raise NotImplementedError
