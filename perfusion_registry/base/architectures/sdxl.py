"""SDXL and what has its layout (Illustrious, NoobAI, Pony and their merges).

Two CLIP text encoders read a prompt, CLIP-L and OpenCLIP's bigG. K and V read the states before the last
layer of both, side by side: d = 768 + 1280 = 2048. A concept has a token embedding for each. Beside the
states the UNet is told the second encoder's projection of the whole prompt (*pooled*), and six numbers of
each picture: the size that it had before it was cropped, where it was cropped, and the size that it has.

The pooled vector reaches all of a picture at once, past every gate. So it is taken from the prompt with the
supercategory's own embeddings in the concept's place: what a concept is reaches a picture by K and V alone.
Without a negative prompt SDXL's unwanted branch is zeros, and concepts leave it so.

Bases are recognised and described without torch, so what needs it is imported where it is used.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from perfusion_registry.base.architectures import channels, unet
from perfusion_registry.base.architectures.pipelines import SDXL
from perfusion_registry.base.architectures.text_encoders import live_text_encoder
from perfusion_registry.base.card import BaseCard
from perfusion_registry.base.clip_tokens import clip_tokens
from perfusion_registry.base.files import BaseFiles
from perfusion_registry.base.identity import BaseDescription
from perfusion_registry.base.interface import Base
from perfusion_registry.base.tokens import ChunkEnd, ConceptPiece, Tokens, several_tokens
from perfusion_registry.base.trainable import require_noise_chain, require_size
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from perfusion_registry.base.conditioning import Conditioning, Embeddings
    from perfusion_registry.base.scorer import Scorer

ENCODERS = ("text_encoder", "text_encoder_2")
TOKENIZERS = ("tokenizer", "tokenizer_2")
_CLASSES = {
    "unet": "UNet2DConditionModel",
    "text_encoder": "CLIPTextModel",
    "text_encoder_2": "CLIPTextModelWithProjection",
}
# Those of the pipelines that draw with the base, all else left out; none of them reads the prompt's states.
_COMPONENTS = {"vae", "scheduler", "feature_extractor", "image_encoder", *TOKENIZERS, *_CLASSES}
_SIZES = 6
"""Numbers that the UNet is told of a picture."""


class StableDiffusionXL:
    """The architecture; see `base.architecture.Architecture`."""

    name = "sdxl"
    models = (*ENCODERS, "unet", "vae")
    text = (*ENCODERS, *TOKENIZERS)
    options = unet.OPTIONS

    def recognise(self, files: BaseFiles) -> bool:
        """By the classes of its components."""
        named = {component: files.classes.get(component) for component in _CLASSES}
        return named == _CLASSES and set(files.components) <= _COMPONENTS

    def family(self, files: BaseFiles) -> str:
        """Of both text encoders, and of the shapes of the UNet's cross-attention layers."""
        channels.require_latents(files)
        unet.require_text_alone(files, {"addition_embed_type": "text_time"})
        told, texts = files.configuration("unet"), [files.configuration(encoder) for encoder in ENCODERS]
        widths = [_number(text, "hidden_size") for text in texts]
        if told.get("cross_attention_dim") != sum(widths):
            raise _misfit(files, "of each token", told.get("cross_attention_dim"), *widths)
        taken = told.get("projection_class_embeddings_input_dim")
        given = _number(texts[1], "projection_dim"), _SIZES * _number(told, "addition_time_embed_dim")
        if taken != sum(given):
            raise _misfit(files, "of the prompt and of the picture's size", taken, *given)
        return unet.file_family(files, ENCODERS)

    def layers_left_out(self, files: BaseFiles, clip_skip: int) -> dict[str, int]:
        """None: SDXL is always read before the last layer. Raises ValueError for another clip skip than 2."""
        if clip_skip != 2:
            raise ValueError("SDXL is always read before its last layers, which is a clip skip of 2")
        return {}

    def require_trainable(self, files: BaseFiles, card: BaseCard) -> None:
        """Latents alone, a chain of noise levels, and a size."""
        channels.require_latents_alone(files)
        require_noise_chain(files)
        require_size(files, card, "unet")

    def draws(self, files: BaseFiles) -> tuple[str, ...]:
        """Into masks alone where the UNet takes a masked picture."""
        return channels.draws(files)

    def tokenizer(self, description: BaseDescription) -> Any:
        """The first CLIP tokenizer, alone."""
        return unet.load_clip_tokenizer(description)

    def load(
        self,
        description: BaseDescription,
        device: torch.device,
        dtype: torch.dtype,
        compute_dtype: torch.dtype,
        scorer: Scorer | None,
    ) -> Base:
        """Its pipeline, without a watermark, and both text encoders in fp32 beside it."""
        from perfusion_registry.base.pretrained import move, quiet

        with quiet():
            from diffusers import StableDiffusionXLPipeline

        unused = {"feature_extractor": None, "image_encoder": None, "add_watermarker": False}
        pipe, (first, second) = unet.load_parts(
            StableDiffusionXLPipeline, description, dtype, ENCODERS, **unused
        )
        move((pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2, first, second), device)
        base = StableDiffusionXLBase(
            pipe=pipe,
            text_encoders=(first, second),
            device=device,
            dtype=dtype,
            compute_dtype=compute_dtype,
            description=description,
            scorer=scorer,
        )
        _ = base.bank  # a UNet that cannot be worked with is told now
        return base

    def wrap(self, pipe: Any, description: BaseDescription | None) -> Base | None:
        """Any pipeline with one UNet and SDXL's two text encoders."""
        parts = {name: type(part).__name__ for name, part in pipe.components.items() if part is not None}
        if {name: parts.get(name) for name in _CLASSES} != _CLASSES:
            return None
        from perfusion_registry.base.exclusive import exclusive
        from perfusion_registry.base.offloading import execution_device

        own = pipe.text_encoder, pipe.text_encoder_2
        with exclusive(pipe.unet):  # another thread may have a composition attached
            first, second = (
                live_text_encoder(encoder, pipe.unet, description, name)
                for encoder, name in zip(own, ENCODERS, strict=True)
            )
            base = StableDiffusionXLBase(
                pipe=pipe,
                text_encoders=(first, second),
                device=execution_device(pipe, pipe.unet),
                dtype=pipe.unet.dtype,
                compute_dtype=pipe.unet.dtype,
                description=description or unet.live_unet_identity(pipe, self.name, own),
            )
            _ = base.bank, base.readers  # what cannot be worked with is told now
        return base


@dataclass(frozen=True, eq=False, kw_only=True)
class StableDiffusionXLBase(unet.UNetBase):
    """A loaded SDXL.

    text_encoders: both, always fp32, because gates are taken in the metric of C^-1, which amplifies rounding;
    the pipeline's own ones have `dtype`, and are the same objects where that is fp32.
    """

    text_encoders: tuple[Any, Any]

    pipelines: ClassVar = SDXL

    @cached_property
    def _tokenizers(self) -> tuple[Any, Any]:
        """Copies for prompts: in whichever thread the pipeline draws, it sets padding on its own."""
        return copy.deepcopy(self.pipe.tokenizer), copy.deepcopy(self.pipe.tokenizer_2)

    def tokenise(self, pieces: Sequence[str | ConceptPiece | ChunkEnd], *, whole: bool = True) -> Tokens:
        """Piece by piece, for each encoder with its own tokenizer: they differ in how they pad.

        Raises PerfError for tokenizers that cut a prompt into other words.
        """
        length, both = self.text_length, self._tokenizers
        first, second = (clip_tokens(one, pieces, length, whole=whole) for one in both)
        if first.words != second.words:
            raise PerfError(
                "the base's two tokenizers read this prompt differently, so it cannot be edited",
                hint="use a base whose tokenizers have one vocabulary, as SDXL's have",
            )
        return first.beside(second)

    def tokenise_captions(self, captions: Sequence[str]) -> list[Tokens]:
        """All at once."""
        both = (
            tokenizer(list(captions), truncation=True, max_length=self.text_length).input_ids
            for tokenizer in self._tokenizers
        )
        return [
            Tokens((tuple(first), tuple(second)), len(first)) for first, second in zip(*both, strict=True)
        ]

    def encode(
        self, prompts: Sequence[Tokens], embeddings: Embeddings | None = None, *, length: int | None = None
    ) -> Conditioning:
        """The states before the last layer of both text encoders, side by side, and the second one's pooled
        vector of the first chunk, with the supercategory's last token in the place of each concept's own,
        unless these are to be in it."""
        import torch

        from perfusion_registry.base.conditioning import Conditioning, InPooledToo
        from perfusion_registry.base.text_encoding import (
            Chunked,
            embedding_values,
            padded_ids,
            penultimate_states,
        )

        states, pooled = [], None
        for k, (encoder, tokenizer) in enumerate(zip(self.text_encoders, self._tokenizers, strict=True)):
            ids = padded_ids(prompts, k, tokenizer.pad_token_id, length).to(self.text_device)
            read = Chunked.of(prompts, ids, embedding_values(prompts, embeddings, k))
            own, pooled = penultimate_states(encoder, read.ids, read.values)
            states.append(read.whole(own))
        within = {place: own for place, own in (embeddings or {}).items() if isinstance(own, InPooledToo)}
        if len(within) < len(embeddings or {}):
            in_pooled = Chunked.of(prompts, ids, embedding_values(prompts, within, k))
            with torch.no_grad():
                _, pooled = penultimate_states(encoder, in_pooled.ids, in_pooled.values)
        return Conditioning(torch.cat(states, -1), pooled=read.first(pooled))

    def without_negative(self, empty: Conditioning) -> Conditioning:
        """Zeros, unless the pipeline's `force_zeros_for_empty_prompt` says otherwise. Their similarity to any
        concept is 0, but a sigmoid is not: so they are not packed as other prompts are."""
        if not self.pipe.config.force_zeros_for_empty_prompt:
            return empty
        assert empty.pooled is not None
        return replace(empty, states=empty.states.new_zeros(empty.states.shape), pooled=0 * empty.pooled)

    @property
    def text_models(self) -> Mapping[str, nn.Module]:
        """Both."""
        return dict(zip(ENCODERS, self.text_encoders, strict=True))

    @property
    def text_length(self) -> int:
        """77 positions, as a rule."""
        return min(
            *(int(tokenizer.model_max_length) for tokenizer in (self.pipe.tokenizer, self.pipe.tokenizer_2)),
            *(int(encoder.config.max_position_embeddings) for encoder in self.text_encoders),
        )

    @property
    def embedding_tables(self) -> Sequence[nn.Embedding]:
        """One of each text encoder."""
        return [encoder.get_input_embeddings() for encoder in self.text_encoders]

    def several_tokens(self, word: str) -> str | None:
        """With words of one token."""
        return several_tokens(self._tokenizers[0], word)

    @cached_property
    def vae(self) -> Any:
        """In fp32 where the pipeline's own is in fp16 and overflows in it, as `force_upcast` says."""
        import torch

        own = self.pipe.vae
        if own.dtype == torch.float16 and own.config.force_upcast:
            return copy.deepcopy(own).float()
        return own

    def answer(self, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """One call of the UNet, told the prompt's pooled vector and how the pictures were cropped."""
        import torch

        assert conditioning.pooled is not None
        sizes = conditioning.sizes
        if sizes is None:
            height, width = (side * self.pixels_per_latent for side in x.shape[-2:])
            sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32, device=x.device)
        arguments = {
            "text_embeds": conditioning.pooled.to(self.dtype),
            "time_ids": sizes.to(x.device).expand(len(x), -1),
        }
        states = conditioning.states.to(self.dtype)
        answer: Tensor = self.denoiser(x.to(self.dtype), t, states, added_cond_kwargs=arguments).sample
        return answer

    def inputs(self, wanted: Conditioning, unwanted: Conditioning) -> dict[str, Any]:
        """Both branches' embeddings and pooled vectors, in the format of the weights."""
        given = {}
        for sign, branch in (("", wanted), ("negative_", unwanted)):
            assert branch.pooled is not None
            given[f"{sign}prompt_embeds"] = branch.states.to(self.device, self.dtype)
            given[f"{sign}pooled_prompt_embeds"] = branch.pooled.to(self.device, self.dtype)
        return given

    def plain_inputs(self, prompts: Sequence[str], unwanted: Sequence[str]) -> dict[str, Any]:
        """With None for no negative prompt: the pipeline encodes one that is given, even if it is empty."""
        return super().plain_inputs(prompts, unwanted) | ({} if any(unwanted) else {"negative_prompt": None})


ARCHITECTURE = StableDiffusionXL()


def _number(configuration: Mapping[str, Any], key: str) -> int:
    """A whole number of a configuration; 0 where it has anything else there."""
    value = configuration.get(key)
    return value if type(value) is int else 0


def _misfit(files: BaseFiles, of: str, taken: object, *given: int) -> PerfError:
    return PerfError(
        f"the base's UNet and its text encoders do not fit together: it reads {taken} numbers {of}, "
        f"and gets {' + '.join(map(str, given))}",
        where=files.place("unet"),
        hint="fetch the base again, or check which text encoders it was saved with",
    )
