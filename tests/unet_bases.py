"""What tests of bases with a UNet ask of each, like `tests.transformer_bases` of those with a transformer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)
from torch import Tensor, nn

from perfusion_registry.base import Base
from tests.sd2 import save_tiny_sd2
from tests.sdxl import save_shallow_sdxl
from tests.tiny import save_tiny_base
from tests.transformer_bases import Kind


@dataclass(frozen=True)
class UNet(Kind):
    """make: builds a tiny one. pipelines: that draws from text, and from a picture. alone: what these are
    told beside their components."""

    name: str
    widths: tuple[int, ...]
    make: Callable[[Path], Path]
    scheduler: str
    pipelines: tuple[type, type]
    alone: dict[str, Any]
    looks_at_padding = True

    @property
    def d(self) -> int:  # type: ignore[override]
        return sum(self.widths)

    def save(self, folder: Path) -> Path:
        return self.make(folder)

    def tables(self, pipe: Any) -> list[tuple[nn.Embedding, Any]]:
        first = pipe.text_encoder.get_input_embeddings(), pipe.tokenizer
        if len(self.widths) == 1:
            return [first]
        return [first, (pipe.text_encoder_2.get_input_embeddings(), pipe.tokenizer_2)]

    def encoded(self, base: Base, text: str) -> Tensor:
        states: Tensor = self._texts(base.pipe, [text])[0]
        return states

    @torch.no_grad()
    def _texts(self, pipe: Any, texts: list[str]) -> tuple[Tensor, Tensor | None]:
        """States (B, n, d) and, of SDXL, pooled vectors (B, p)."""
        if len(self.widths) == 1:
            return pipe.encode_prompt(texts, "cpu", 1, False)[0], None
        given = pipe.encode_prompt(texts, do_classifier_free_guidance=False)
        return given[0], given[2]

    @torch.no_grad()
    def ask(self, base: Base, x: Tensor, share: float, texts: list[str]) -> Tensor:
        states, pooled = self._texts(base.pipe, texts)
        unet, more = base.pipe.unet, {}
        if pooled is not None:
            pixels = 8 * x.shape[-1]
            told = torch.tensor([[pixels, pixels, 0, 0, pixels, pixels]] * len(x), dtype=x.dtype)
            more = {"added_cond_kwargs": {"text_embeds": pooled.to(x), "time_ids": told}}
        t = torch.full((len(x),), int(share * 1000))
        answer: Tensor = unet(x.to(unet.dtype), t, states.to(unet.dtype), **more).sample
        return answer

    def drawn(self, base: Base, transformer: nn.Module, text: str, negative: str, **how: Any) -> Any:
        kind = self.pipelines["image" in how]
        pipe = kind(**{**base.pipe.components, "unet": transformer}, **self.alone)
        schedule = {"DDIMScheduler": DDIMScheduler, "EulerDiscreteScheduler": EulerDiscreteScheduler}
        pipe.scheduler = schedule[self.scheduler].from_config(base.pipe.scheduler.config)
        pipe.set_progress_bar_config(disable=True)
        how = {"num_inference_steps": 2, "guidance_scale": 3.0} | how
        if "image" not in how:
            how = {"width": 64, "height": 64} | how
        generator = [torch.Generator().manual_seed(5)]
        return pipe(text, negative_prompt=negative or None, generator=generator, **how).images[0]

    def called(self, pipe: Any, call: dict[str, Any]) -> Any:
        how = {"num_inference_steps": 2, "guidance_scale": 3.0, "width": 64, "height": 64}
        return pipe(**call, **how, generator=torch.Generator().manual_seed(5)).images[0]


_SD = (StableDiffusionPipeline, StableDiffusionImg2ImgPipeline)
_XL = (StableDiffusionXLPipeline, StableDiffusionXLImg2ImgPipeline)
_SAFE, _PLAIN = {"requires_safety_checker": False}, {"add_watermarker": False}
UNETS: dict[str, Kind] = {
    "SD 1": UNet("stable-diffusion", (32,), save_tiny_base, "DDIMScheduler", _SD, _SAFE),
    "SD 2": UNet("stable-diffusion", (32,), save_tiny_sd2, "DDIMScheduler", _SD, _SAFE),
    "SDXL": UNet("sdxl", (32, 48), save_shallow_sdxl, "EulerDiscreteScheduler", _XL, _PLAIN),
}
