"""What tests of bases with a transformer ask of each: how to make one, and what its stock pipeline gives."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AnimaAutoBlocks, ClassifierFreeGuidance, FlowMatchEulerDiscreteScheduler
from diffusers.modular_pipelines.anima.encoders import AnimaTextEncoderStep
from torch import Tensor, nn

from perfusion_registry.base import Base
from tests.anima import save_tiny_anima
from tests.pixart import save_tiny_pixart

HOW = {"seeds": (5,), "steps": 2, "guidance": 3.0, "width": 64, "height": 64}


class Kind(ABC):
    """A kind of base. scheduler: its own, by name. widths: of its token embeddings. d: of what K and V read.
    order: of the negative prompt (0) and the prompt (1) in what its pipeline asks the denoiser."""

    name: str
    scheduler: str
    widths: tuple[int, ...]
    d: int
    order: tuple[int, ...] = (0, 1)
    looks_at_padding = False

    @abstractmethod
    def save(self, folder: Path) -> Path:
        """Build a tiny one."""

    @abstractmethod
    def tables(self, pipe: Any) -> list[tuple[nn.Embedding, Any]]:
        """The token embeddings that run in its pipeline, and the tokenizer of each; places in the tokens of
        the first are those of what K and V read."""

    @abstractmethod
    def encoded(self, base: Base, text: str) -> Tensor:
        """What K and V read of a text, (1, n, d), by the stock pipeline's own means."""

    @abstractmethod
    def ask(self, base: Base, x: Tensor, share: float, texts: list[str]) -> Tensor:
        """What the stock denoiser answers to noisy latents (B, c, h, w) at a share of the noise schedule."""

    @abstractmethod
    def drawn(self, base: Base, transformer: nn.Module, text: str, negative: str, **how: Any) -> Any:
        """What the stock pipeline draws, with that transformer in its place."""

    @abstractmethod
    def called(self, pipe: Any, call: dict[str, Any]) -> Any:
        """What a program draws, to which `composed` has given how to call its pipeline."""

    def stock(
        self, base: Base, text: str, negative: str = "", transformer: nn.Module | None = None
    ) -> np.ndarray:
        picture = self.drawn(base, transformer or base.denoiser, text, negative)
        return np.asarray(picture).astype(int)


class PixArt(Kind):
    name, scheduler, widths, d = "pixart-sigma", "DPMSolverMultistepScheduler", (24,), 32

    def save(self, folder: Path) -> Path:
        return save_tiny_pixart(folder)

    def tables(self, pipe: Any) -> list[tuple[nn.Embedding, Any]]:
        return [(pipe.text_encoder.encoder.embed_tokens, pipe.tokenizer)]

    def encoded(self, base: Base, text: str) -> Tensor:
        with torch.no_grad():
            states, *_ = base.pipe.encode_prompt(text, do_classifier_free_guidance=False)
            projected: Tensor = base.pipe.transformer.caption_projection(states)
        return projected

    def ask(self, base: Base, x: Tensor, share: float, texts: list[str]) -> Tensor:
        states, mask, *_ = base.pipe.encode_prompt(texts, do_classifier_free_guidance=False)
        given = {"encoder_hidden_states": states, "encoder_attention_mask": mask}
        more = {"added_cond_kwargs": {"resolution": None, "aspect_ratio": None}}
        t = torch.full((len(x),), int(share * 1000))
        answer: Tensor = base.pipe.transformer(x, timestep=t, **given, **more).sample
        return answer.chunk(2, 1)[0]

    def drawn(self, base: Base, transformer: nn.Module, text: str, negative: str, **how: Any) -> Any:
        pipe = copy.copy(base.pipe)
        pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
        pipe.transformer = transformer
        pipe.set_progress_bar_config(disable=True)
        how = {"num_inference_steps": 2, "guidance_scale": 3.0, "width": 64, "height": 64} | how
        how |= {"clean_caption": False, "use_resolution_binning": False}
        generator = [torch.Generator().manual_seed(5)]
        return pipe(text, negative_prompt=negative, generator=generator, **how).images[0]

    def called(self, pipe: Any, call: dict[str, Any]) -> Any:
        how = {"num_inference_steps": 2, "guidance_scale": 3.0, "width": 64, "height": 64}
        return pipe(**call, **how, generator=torch.Generator().manual_seed(5)).images[0]


class Anima(Kind):
    name, scheduler, widths, d = "anima", "FlowMatchEulerDiscreteScheduler", (32, 24), 32
    order = (1, 0)  # one after the other
    looks_at_padding = True

    def save(self, folder: Path) -> Path:
        return save_tiny_anima(folder)

    def tables(self, pipe: Any) -> list[tuple[nn.Embedding, Any]]:
        t5 = pipe.text_conditioner.embed, pipe.t5_tokenizer
        return [t5, (pipe.text_encoder.embed_tokens, pipe.tokenizer)]

    def encoded(self, base: Base, text: str) -> Tensor:
        return self._texts(base, [text])

    @torch.no_grad()
    def _texts(self, base: Base, texts: list[str]) -> Tensor:
        given = AnimaTextEncoderStep.encode_prompt(base.pipe, texts, prepare_unconditional_embeds=False)
        names = ("qwen_prompt_embeds", "qwen_attention_mask", "t5_input_ids", "t5_attention_mask")
        states: Tensor = base.pipe.text_conditioner(
            source_hidden_states=given[names[0]],
            source_attention_mask=given[names[1]],
            target_input_ids=given[names[2]],
            target_attention_mask=given[names[3]],
        )
        return states

    def ask(self, base: Base, x: Tensor, share: float, texts: list[str]) -> Tensor:
        states, edges = self._texts(base, texts), torch.zeros(1, 1, 64, 64)
        t = torch.full((len(x),), share)
        answer: Tensor = base.pipe.transformer(x[:, :, None], t, states, padding_mask=edges).sample
        return answer[:, :, 0]

    def drawn(self, base: Base, transformer: nn.Module, text: str, negative: str, **how: Any) -> Any:
        pipe = AnimaAutoBlocks().init_pipeline()
        own = {**base.pipe.components, "transformer": transformer}
        own["scheduler"] = FlowMatchEulerDiscreteScheduler.from_config(base.pipe.scheduler.config)
        pipe.update_components(**own | {"guider": ClassifierFreeGuidance(guidance_scale=3.0)})
        pipe.set_progress_bar_config(disable=True)
        how = {"num_inference_steps": 2, "width": 64, "height": 64} | how
        generator = [torch.Generator().manual_seed(5)]
        return pipe(prompt=text, negative_prompt=negative, generator=generator, output="images", **how)[0]

    def called(self, pipe: Any, call: dict[str, Any]) -> Any:
        pipe.guider = ClassifierFreeGuidance(guidance_scale=3.0)
        how = {"num_inference_steps": 2, "width": 64, "height": 64, "output": "images"}
        return pipe(**call, **how, generator=torch.Generator().manual_seed(5))[0]


KINDS: dict[str, Kind] = {kind.name: kind for kind in (PixArt(), Anima())}
