"""Stable Diffusion 1.x and 2.x, and what has their layout: a UNet, one CLIP text encoder, an image VAE.

Bases are recognised and described without torch, so what needs it is imported where it is used.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from perfusion_registry.base.architectures import channels, unet
from perfusion_registry.base.architectures.pipelines import STABLE_DIFFUSION
from perfusion_registry.base.architectures.text_encoders import live_text_encoder
from perfusion_registry.base.bounds import BaseBounds
from perfusion_registry.base.card import BaseCard
from perfusion_registry.base.clip_tokens import clip_tokens
from perfusion_registry.base.files import BaseFiles
from perfusion_registry.base.identity import BaseDescription
from perfusion_registry.base.interface import Base
from perfusion_registry.base.tokens import ChunkEnd, ConceptPiece, Tokens, several_tokens, unknown_words
from perfusion_registry.base.trainable import require_noise_chain, require_size

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from perfusion_registry.base.conditioning import Conditioning, Embeddings
    from perfusion_registry.base.scorer import Scorer


# Those of the pipelines that draw with the base, all else left out; none of them reads the prompt's states.
_COMPONENTS = {
    *("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
    *("safety_checker", "feature_extractor", "image_encoder"),
}


_OF_SD_2 = 1024
"""Numbers that OpenCLIP's text encoder has for a token."""


class StableDiffusion:
    """The architecture; see `base.architecture.Architecture`."""

    name = "stable-diffusion"
    models = ("text_encoder", "unet", "vae")
    text = ("text_encoder", "tokenizer")
    options = unet.OPTIONS

    def recognise(self, files: BaseFiles) -> bool:
        """By the classes of its components."""
        classes = files.classes
        return (
            classes.get("unet") == "UNet2DConditionModel"
            and classes.get("text_encoder") == "CLIPTextModel"
            and set(files.components) <= _COMPONENTS
        )

    def family(self, files: BaseFiles) -> str:
        """Of the text encoder, and of the shapes of the UNet's cross-attention layers."""
        channels.require_latents(files)
        unet.require_text_alone(files)
        return unet.file_family(files, ["text_encoder"])

    def layers_left_out(self, files: BaseFiles, clip_skip: int) -> dict[str, int]:
        """Clip skip as A1111 counts it: any of Stable Diffusion 1; 2 of Stable Diffusion 2, whose encoder
        is stored without its last layer. Raises ValueError for what there is not."""
        text = files.configuration("text_encoder")
        layers = int(text.get("num_hidden_layers", 0))
        if text.get("hidden_size") == _OF_SD_2:
            if clip_skip != 2:
                raise ValueError(
                    "Stable Diffusion 2 is always read before its last layer, which is a clip skip of 2"
                )
            return {}
        if clip_skip > layers:
            raise ValueError(
                f"the text encoder has {layers} layers, so none is left after a clip skip of {clip_skip}"
            )
        return {"text_encoder": clip_skip - 1}

    def require_trainable(self, files: BaseFiles, card: BaseCard) -> None:
        """Latents alone, a chain of noise levels, and a size."""
        channels.require_latents_alone(files)
        require_noise_chain(files)
        require_size(files, card, "unet")

    def draws(self, files: BaseFiles) -> tuple[str, ...]:
        """Into masks alone where the UNet takes a masked picture."""
        return channels.draws(files)

    def tokenizer(self, description: BaseDescription) -> Any:
        """The CLIP tokenizer, alone."""
        return unet.load_clip_tokenizer(description)

    def load(
        self,
        description: BaseDescription,
        device: torch.device,
        dtype: torch.dtype,
        compute_dtype: torch.dtype,
        scorer: Scorer | None,
    ) -> Base:
        """Its pipeline, without a safety checker, and the text encoder in fp32 beside it."""
        from perfusion_registry.base.pretrained import move, quiet

        with quiet():
            from diffusers import StableDiffusionPipeline

        unused = {"safety_checker": None, "requires_safety_checker": False, "feature_extractor": None}
        pipe, (text_encoder,) = unet.load_parts(
            StableDiffusionPipeline, description, dtype, ["text_encoder"], **unused
        )
        move((pipe.unet, pipe.vae, pipe.text_encoder, text_encoder), device)
        base = StableDiffusionBase(
            pipe=pipe,
            text_encoder=text_encoder,
            device=device,
            dtype=dtype,
            compute_dtype=compute_dtype,
            description=description,
            scorer=scorer,
        )
        _ = base.bank  # a UNet that cannot be worked with is told now
        return base

    def wrap(self, pipe: Any, description: BaseDescription | None) -> Base | None:
        """Any pipeline with one UNet and one CLIP text encoder."""
        parts = {name: type(part).__name__ for name, part in pipe.components.items() if part is not None}
        if (parts.get("unet"), parts.get("text_encoder")) != ("UNet2DConditionModel", "CLIPTextModel"):
            return None
        if "text_encoder_2" in parts:
            return None
        from perfusion_registry.base.exclusive import exclusive
        from perfusion_registry.base.offloading import execution_device

        with exclusive(pipe.unet):  # another thread may have a composition attached
            base = StableDiffusionBase(
                pipe=pipe,
                text_encoder=live_text_encoder(pipe.text_encoder, pipe.unet, description),
                device=execution_device(pipe, pipe.unet),
                dtype=pipe.unet.dtype,
                compute_dtype=pipe.unet.dtype,
                description=description or unet.live_unet_identity(pipe, self.name, [pipe.text_encoder]),
            )
            _ = base.bank, base.readers  # what cannot be worked with is told now
        return base


@dataclass(frozen=True, eq=False, kw_only=True)
class StableDiffusionBase(unet.UNetBase):
    """A loaded Stable Diffusion.

    text_encoder: always fp32, because gates are taken in the metric of C^-1, which amplifies rounding; the
    pipeline's own one has `dtype`, and is the same object where that is fp32.
    """

    text_encoder: Any

    pipelines: ClassVar = STABLE_DIFFUSION

    @cached_property
    def _tokenizer(self) -> Any:
        """A copy for prompts: in whichever thread the pipeline draws, it sets padding on its own, which all
        who share a tokenizer would get."""
        return copy.deepcopy(self.pipe.tokenizer)

    def tokenise(self, pieces: Sequence[str | ConceptPiece | ChunkEnd], *, whole: bool = True) -> Tokens:
        """Piece by piece, as CLIP reads them."""
        return clip_tokens(self._tokenizer, pieces, self.text_length, whole=whole)

    def tokenise_captions(self, captions: Sequence[str]) -> list[Tokens]:
        """All at once."""
        tokenizer = self.pipe.tokenizer
        rows = tokenizer(list(captions), truncation=True, max_length=self.text_length).input_ids
        return [Tokens((tuple(row),), len(row)) for row in rows]

    def encode(
        self, prompts: Sequence[Tokens], embeddings: Embeddings | None = None, *, length: int | None = None
    ) -> Conditioning:
        """The last states of the text encoder, which reads each chunk by itself."""
        from perfusion_registry.base.conditioning import Conditioning
        from perfusion_registry.base.text_encoding import Chunked, clip_states, embedding_values, padded_ids

        tokenizer = self.pipe.tokenizer
        ids = padded_ids(prompts, 0, tokenizer.pad_token_id, length).to(self.text_device)
        read = Chunked.of(prompts, ids, embedding_values(prompts, embeddings, 0))
        states = clip_states(self.text_encoder, read.ids, read.values, tokenizer.eos_token_id)
        return Conditioning(read.whole(states))

    @property
    def text_models(self) -> Mapping[str, nn.Module]:
        """The one."""
        return {"text_encoder": self.text_encoder}

    @property
    def text_length(self) -> int:
        """77 positions, as a rule."""
        return min(
            int(self.pipe.tokenizer.model_max_length), int(self.text_encoder.config.max_position_embeddings)
        )

    @property
    def embedding_tables(self) -> Sequence[nn.Embedding]:
        """The one of the text encoder."""
        return [self.text_encoder.get_input_embeddings()]

    def several_tokens(self, word: str) -> str | None:
        """With words of one token."""
        return several_tokens(self._tokenizer, word)

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """Those that it was not trained on, where its folder says on which; else that its tokenizer reads in
        pieces."""
        return unknown_words(self._tokenizer, texts, self._trained_words)

    @cached_property
    def _trained_words(self) -> tuple[str, ...]:
        return BaseBounds.of(self.description).words

    def answer(self, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """One call of the UNet."""
        weights = self.dtype
        answer: Tensor = self.denoiser(x.to(weights), t, conditioning.states.to(weights)).sample
        return answer

    def inputs(self, wanted: Conditioning, unwanted: Conditioning) -> dict[str, Any]:
        """`prompt_embeds` and `negative_prompt_embeds`, in the format of the weights."""
        embeds = {"prompt_embeds": wanted, "negative_prompt_embeds": unwanted}
        return {name: branch.states.to(self.device, self.dtype) for name, branch in embeds.items()}


ARCHITECTURE = StableDiffusion()
