"""A second architecture, which lives in tests only: all that Stable Diffusion has not.

Two text encoders, each with a token embedding of its own, side by side in what K and V read; behind them a
caption projection and a norm; an attention mask; K and V with biases; a transformer that answers a velocity;
an autoencoder without a posterior. The denoiser and the pipeline are diffusers' Sana's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import AutoencoderDC, FlowMatchEulerDiscreteScheduler, SanaPipeline, SanaTransformer2DModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from perfusion_registry.base.autoencoder import Posterior
from perfusion_registry.base.card import BaseCard
from perfusion_registry.base.clip_tokens import clip_tokens
from perfusion_registry.base.conditioning import Conditioning, Embeddings
from perfusion_registry.base.family import family_digest, text_digest
from perfusion_registry.base.files import BaseFiles
from perfusion_registry.base.identity import BaseDescription
from perfusion_registry.base.interface import Base
from perfusion_registry.base.layers import CrossAttention, ModuleSlot, ResidualBlock
from perfusion_registry.base.live import live_identity
from perfusion_registry.base.objective import FlowMatching
from perfusion_registry.base.pretrained import load_pretrained, move
from perfusion_registry.base.scorer import Scorer
from perfusion_registry.base.text_encoding import clip_states, embedding_values, padded_ids
from perfusion_registry.base.tokens import ChunkEnd, ConceptPiece, Tokens, several_tokens
from tests.tiny import save_tiny_tokenizer, text_config, tiny_clip

LENGTH = 24
ENCODERS = ("text_encoder", "text_encoder_2")
PATHS = ("transformer_blocks.0.attn2", "transformer_blocks.1.attn2")


class TextPipeline(SanaPipeline):
    """Sana's pipeline with the second text encoder; what both say is given to it encoded."""

    def __init__(
        self,
        tokenizer: Any,
        text_encoder: Any,
        text_encoder_2: Any,
        vae: Any,
        transformer: Any,
        scheduler: Any,
    ) -> None:
        super().__init__(tokenizer, text_encoder, vae, transformer, scheduler)
        self.register_modules(text_encoder_2=text_encoder_2)


class ImagePipeline(TextPipeline):
    """Image to image: begins in the middle of the noise, `strength` of it, over the image's latents."""

    def __call__(  # type: ignore[override]
        self, image: Any, strength: float, num_inference_steps: int, generator: Any, **call: Any
    ) -> Any:
        pixels = self.image_processor.preprocess(image).to(self.transformer.dtype)
        z = self.vae.encode(pixels).latent * self.vae.config.scaling_factor
        sigmas = np.linspace(1, 1 / num_inference_steps, num_inference_steps)
        sigmas = sigmas[round(num_inference_steps * (1 - strength)) :]
        self.scheduler.set_timesteps(sigmas=sigmas)
        first = float(self.scheduler.sigmas[0])
        x = (1 - first) * z + first * torch.randn(z.shape, generator=generator)
        height, width = pixels.shape[-2:]
        return super().__call__(
            **call, height=height, width=width, latents=x, sigmas=list(sigmas), generator=generator
        )


class SanaWithTwoEncoders:
    name = "sana-with-two-encoders"
    models = (*ENCODERS, "transformer", "vae")
    text = (*ENCODERS, "tokenizer")

    def recognise(self, files: BaseFiles) -> bool:
        return files.index.get("_class_name") == "SanaWithTwoEncoders"

    def family(self, files: BaseFiles) -> str:
        weights = [text_digest(path) for encoder in ENCODERS for path in files.tensor_files(encoder)]
        shapes = {name: entry.shape for name, entry in files.tensors("transformer").items()}
        layers = [
            (path, *(shapes[f"{path}.{side}.weight"][0] for side in ("to_k", "to_v")), 32) for path in PATHS
        ]
        return family_digest([files.configuration(encoder) for encoder in ENCODERS], weights, layers)

    def require_trainable(self, files: BaseFiles, card: BaseCard) -> None:
        """Flow matching can always be trained on."""

    def tokenizer(self, description: BaseDescription) -> Any:
        return load_pretrained(CLIPTokenizer, description.folder / "tokenizer", "the tokenizer")

    def load(
        self,
        description: BaseDescription,
        device: torch.device,
        dtype: torch.dtype,
        compute_dtype: torch.dtype,
        scorer: Scorer | None,
    ) -> Base:
        kinds = (CLIPTextModel, CLIPTextModel, SanaTransformer2DModel, AutoencoderDC)
        first, second, transformer, vae = (
            load_pretrained(kind, description.folder / model, f"the {model}")
            for kind, model in zip(kinds, self.models, strict=True)
        )
        move((first, second, transformer, vae), device)
        scheduler = load_pretrained(FlowMatchEulerDiscreteScheduler, description.folder / "scheduler", "it")
        return Loaded(
            pipe=TextPipeline(self.tokenizer(description), first, second, vae, transformer, scheduler),
            encoders=(first, second),
            device=device,
            dtype=dtype,
            compute_dtype=compute_dtype,
            description=description,
            scorer=scorer,
        )

    def wrap(self, pipe: Any, description: BaseDescription | None) -> Base | None:
        if not isinstance(pipe, TextPipeline):
            return None
        encoders, shapes = (pipe.text_encoder, pipe.text_encoder_2), pipe.transformer.state_dict()
        layers = [
            (path, *(shapes[f"{path}.{side}.weight"].shape[0] for side in ("to_k", "to_v")), 32)
            for path in PATHS
        ]
        return Loaded(
            pipe=pipe,
            encoders=encoders,
            device=pipe.transformer.device,
            dtype=pipe.transformer.dtype,
            compute_dtype=pipe.transformer.dtype,
            description=description or live_identity(pipe, self.name, encoders, layers),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Loaded(Base):
    encoders: tuple[Any, Any]

    attends_to_padding: ClassVar = False
    pipelines: ClassVar = {
        "text": "tests.second_architecture:TextPipeline",
        "image": "tests.second_architecture:ImagePipeline",
    }
    objective = FlowMatching()
    text_length = LENGTH
    pixels_per_latent = 8
    native_size = (64, 64)

    def tokenise(self, pieces: Sequence[str | ConceptPiece | ChunkEnd], *, whole: bool = True) -> Tokens:
        tokens = clip_tokens(self.pipe.tokenizer, pieces, LENGTH, whole=False)  # cut: it reads no chunks
        return tokens.beside(tokens)

    def tokenise_captions(self, captions: Sequence[str]) -> list[Tokens]:
        rows = self.pipe.tokenizer(list(captions), truncation=True, max_length=LENGTH).input_ids
        return [Tokens((tuple(row), tuple(row)), len(row)) for row in rows]

    def encode(
        self, prompts: Sequence[Tokens], embeddings: Embeddings | None = None, *, length: int | None = None
    ) -> Conditioning:
        raw, mask = self.raw(prompts, embeddings, length)
        return Conditioning(self.bank.projected(raw), mask)

    def raw(
        self, prompts: Sequence[Tokens], embeddings: Embeddings | None = None, length: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """States before the caption projection (B, n, 48), and the mask (B, n)."""
        tokenizer, states = self.pipe.tokenizer, []
        for k, encoder in enumerate(self.encoders):
            ids = padded_ids(prompts, k, tokenizer.pad_token_id, length).to(self.device)
            values = embedding_values(prompts, embeddings, k)
            states.append(clip_states(encoder, ids, values, tokenizer.eos_token_id))
        lengths = torch.tensor([[row.length] for row in prompts], device=self.device)
        return torch.cat(states, -1), torch.arange(ids.shape[1], device=self.device) < lengths

    @property
    def embedding_tables(self) -> Sequence[nn.Embedding]:
        return [encoder.get_input_embeddings() for encoder in self.encoders]

    def several_tokens(self, word: str) -> str | None:
        return several_tokens(self.pipe.tokenizer, word)

    @property
    def denoiser(self) -> nn.Module:
        return self.pipe.transformer

    @cached_property
    def cross_attentions(self) -> Sequence[CrossAttention]:
        return [CrossAttention(path, self.denoiser.get_submodule(path)) for path in PATHS]

    residual_blocks: ClassVar[Sequence[ResidualBlock]] = ()

    @property
    def caption_projection(self) -> Sequence[ModuleSlot]:
        return [ModuleSlot(self.denoiser, "caption_projection"), ModuleSlot(self.denoiser, "caption_norm")]

    def answer(self, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        mask, times = conditioning.mask, t.expand(len(x))
        return self.denoiser(x, conditioning.states, timestep=times, encoder_attention_mask=mask).sample

    def latents(self, images: Tensor) -> Posterior:
        with torch.inference_mode():
            z = self.pipe.vae.encode(images * 2 - 1).latent.clone() * self.pipe.vae.config.scaling_factor
        return Posterior(z, torch.zeros_like(z))

    def pictures(self, latents: Tensor) -> Tensor:
        with torch.inference_mode():
            shown = self.pipe.vae.decode(latents / self.pipe.vae.config.scaling_factor).sample
        return (shown / 2 + 0.5).clamp(0, 1)

    def reconstructed(self, images: Tensor) -> Tensor:
        return self.pictures(self.latents(images).mean).cpu()

    def inputs(self, wanted: Conditioning, unwanted: Conditioning) -> dict[str, Any]:
        embeds = {"prompt_embeds": wanted.states, "negative_prompt_embeds": unwanted.states}
        masks = {"prompt_attention_mask": wanted.mask, "negative_prompt_attention_mask": unwanted.mask}
        return {**embeds, **masks, "negative_prompt": None, "use_resolution_binning": False}

    def plain_inputs(self, prompts: Sequence[str], unwanted: Sequence[str]) -> dict[str, Any]:
        tokens = ([self.tokenise([text] if text else []) for text in texts] for texts in (prompts, unwanted))
        return self.inputs(*(Conditioning(*self.raw(rows)) for rows in tokens))


ARCHITECTURE = SanaWithTwoEncoders()


def save_second_base(folder: Path) -> Path:
    """Build a tiny base of this architecture in `folder`, from a seed. Returns `folder`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = save_tiny_tokenizer(folder / "tokenizer")
        widths = dict(zip(ENCODERS, (32, 16), strict=True))
        parts: dict[str, Any] = {
            name: CLIPTextModel(text_config(tokenizer, width)) for name, width in widths.items()
        }
        parts["transformer"] = SanaTransformer2DModel(
            in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=2,
            num_cross_attention_heads=2, cross_attention_head_dim=16, cross_attention_dim=32,
            caption_channels=48, sample_size=8, qk_norm="rms_norm_across_heads",
        )  # fmt: skip
        parts["vae"] = AutoencoderDC(
            latent_channels=4, encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4,
            encoder_layers_per_block=(1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1),
            encoder_qkv_multiscales=((),) * 4, decoder_qkv_multiscales=((),) * 4, scaling_factor=0.5,
        )  # fmt: skip
        parts["scheduler"] = FlowMatchEulerDiscreteScheduler(shift=2.0)
        parts["clip"] = tiny_clip(tokenizer)
        for linear in parts["transformer"].modules():
            if isinstance(linear, nn.Linear) and linear.bias is not None:
                nn.init.normal_(linear.bias, std=0.1)  # a bias of zero would show nothing
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / "clip")
    index = {name: ["diffusers", type(part).__name__] for name, part in parts.items() if name != "clip"}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "SanaWithTwoEncoders"} | index))
    return folder
