"""Stable Diffusion 1.x and 2.x, and what has their layout: a UNet, one CLIP text encoder, an image VAE.

Bases are recognised and described without torch, so what needs it is imported where it is used.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from perfusion_registry.base.architectures import unet
from perfusion_registry.base.card import BaseCard
from perfusion_registry.base.family import (
    family_digest,
    live_text_digest,
    text_digest,
)
from perfusion_registry.base.files import BaseFiles
from perfusion_registry.base.identity import BaseDescription, BaseIdentity
from perfusion_registry.base.interface import Base
from perfusion_registry.base.kinds import SUITABLE
from perfusion_registry.base.layers import CrossAttention, ResidualBlock
from perfusion_registry.base.tokens import ConceptPiece, Tokens, clip_tokens, several_tokens
from perfusion_registry.base.trainable import require_noise_chain, require_size
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from perfusion_registry.base.autoencoder import Posterior
    from perfusion_registry.base.conditioning import Conditioning, Embeddings
    from perfusion_registry.base.readers import Reader
    from perfusion_registry.base.scorer import Scorer


# Those of the pipelines that draw with the base, all else left out; none of them reads the prompt's states.
_COMPONENTS = {
    *("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
    *("safety_checker", "feature_extractor", "image_encoder"),
}


class StableDiffusion:
    """The architecture; see `base.architecture.Architecture`."""

    name = "stable-diffusion"
    models = ("text_encoder", "unet", "vae")
    text = ("text_encoder", "tokenizer")

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
        _require_latents_alone(files)
        unet.require_text_alone(files)
        layers = unet.cross_attention_shapes(files.tensors("unet"))
        if not layers:
            raise PerfError(
                "the base's UNet has no text cross-attention", where=str(files.folder), hint=SUITABLE
            )
        weights = map(text_digest, files.tensor_files("text_encoder"))
        return family_digest(files.configuration("text_encoder"), weights, layers)

    def require_trainable(self, files: BaseFiles, card: BaseCard) -> None:
        """A chain of noise levels, and a size."""
        require_noise_chain(files)
        require_size(files, card, "unet")

    def tokenizer(self, description: BaseDescription) -> Any:
        """The CLIP tokenizer, alone."""
        from perfusion_registry.base.pretrained import load_pretrained, quiet

        with quiet():
            from transformers import CLIPTokenizer

        return load_pretrained(CLIPTokenizer, description.folder / "tokenizer", "the base's tokenizer")

    def load(
        self,
        description: BaseDescription,
        device: torch.device,
        dtype: torch.dtype,
        compute_dtype: torch.dtype,
        scorer: Scorer | None,
    ) -> Base:
        """Its pipeline, without a safety checker, and the text encoder in fp32 beside it."""
        from perfusion_registry.base.pretrained import (
            load_pipeline,
            move,
            quiet,
            require_all_weights,
        )

        with quiet():
            from diffusers import StableDiffusionPipeline

        folder, variant = description.folder, description.variant
        pipe = load_pipeline(
            StableDiffusionPipeline,
            description,
            dtype,
            safety_checker=None,
            requires_safety_checker=False,
            feature_extractor=None,
        )
        text_encoder = _fp32_text_encoder(pipe.text_encoder, description)
        require_all_weights(pipe.unet, folder / "unet", variant)
        require_all_weights(text_encoder, folder / "text_encoder", variant)
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

        place = pipe.unet.device
        with exclusive(pipe.unet):  # another thread may have a composition attached
            base = StableDiffusionBase(
                pipe=pipe,
                text_encoder=_fp32_text_encoder(pipe.text_encoder, description).to(place),
                device=place,
                dtype=pipe.unet.dtype,
                compute_dtype=pipe.unet.dtype,
                description=description or self._live_identity(pipe),
            )
            _ = base.bank, base.readers  # what cannot be worked with is told now
        return base

    def _live_identity(self, pipe: Any) -> BaseIdentity:
        encoder = pipe.text_encoder
        if str(encoder.dtype) not in ("torch.float32", "torch.float16"):
            raise PerfError(
                f"the pipeline's text encoder is in {encoder.dtype}, which has lost too many digits to tell "
                "which concepts fit it",
                hint="load the pipeline in fp32 or fp16, or name the base that it was loaded from",
            )
        return BaseIdentity(
            repo=str(pipe.config.get("_name_or_path") or type(pipe).__name__),
            architecture=self.name,
            family=family_digest(
                encoder.config.to_dict(),
                [live_text_digest(encoder.state_dict())],
                unet.cross_attention_shapes(pipe.unet.state_dict()),
            ),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class StableDiffusionBase(Base):
    """A loaded Stable Diffusion.

    text_encoder: always fp32, because gates are taken in the metric of C^-1, which amplifies rounding; the
    pipeline's own one has `dtype`, and is the same object where that is fp32.
    """

    text_encoder: Any

    pipelines: ClassVar = {
        "text": "diffusers:StableDiffusionPipeline",
        "image": "diffusers:StableDiffusionImg2ImgPipeline",
        "inpaint": "diffusers:StableDiffusionInpaintPipeline",
    }

    @cached_property
    def _tokenizer(self) -> Any:
        """A copy for prompts: in whichever thread the pipeline draws, it sets padding on its own, which all
        who share a tokenizer would get."""
        return copy.deepcopy(self.pipe.tokenizer)

    def tokenise(self, pieces: Sequence[str | ConceptPiece]) -> Tokens:
        """Piece by piece, as CLIP reads them."""
        return clip_tokens(self._tokenizer, pieces, self.text_length)

    def tokenise_captions(self, captions: Sequence[str]) -> list[Tokens]:
        """All at once."""
        tokenizer = self.pipe.tokenizer
        rows = tokenizer(list(captions), truncation=True, max_length=self.text_length).input_ids
        return [Tokens((tuple(row),), len(row)) for row in rows]

    def encode(
        self, prompts: Sequence[Tokens], embeddings: Embeddings | None = None, *, length: int | None = None
    ) -> Conditioning:
        """The last states of the text encoder."""
        from perfusion_registry.base.conditioning import Conditioning
        from perfusion_registry.base.text_encoding import clip_states, embedding_values, padded_ids

        tokenizer = self.pipe.tokenizer
        ids = padded_ids(prompts, 0, tokenizer.pad_token_id, length).to(self.device)
        values = embedding_values(prompts, embeddings, 0)
        return Conditioning(clip_states(self.text_encoder, ids, values, tokenizer.eos_token_id))

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

    @property
    def denoiser(self) -> nn.Module:
        """The UNet."""
        denoiser: nn.Module = self.pipe.unet
        return denoiser

    @cached_property
    def cross_attentions(self) -> Sequence[CrossAttention]:
        """Every attn2 of the UNet."""
        return unet.cross_attentions(self.denoiser)

    @cached_property
    def readers(self) -> Sequence[Reader]:
        """The pipeline's ControlNets."""
        return unet.controlnets(self.pipe)

    @cached_property
    def residual_blocks(self) -> Sequence[ResidualBlock]:
        """Its transformer blocks between `proj_in` and `proj_out`."""
        return unet.residual_blocks(self.denoiser)

    def answer(self, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """One call of the UNet."""
        weights = self.dtype
        answer: Tensor = self.denoiser(x.to(weights), t, conditioning.states.to(weights)).sample
        return answer

    def latents(self, images: Tensor) -> Posterior:
        """By the VAE."""
        from perfusion_registry.base.autoencoder import encoded

        return encoded(self.pipe.vae, images, self.device, self.autocast())

    def pictures(self, latents: Tensor) -> Tensor:
        """By the VAE."""
        from perfusion_registry.base.autoencoder import decoded

        return decoded(self.pipe.vae, latents, self.autocast())

    def reconstructed(self, images: Tensor) -> Tensor:
        """By the VAE, in its own format."""
        from perfusion_registry.base.autoencoder import reconstructed

        return reconstructed(self.pipe.vae, images)

    @property
    def pixels_per_latent(self) -> int:
        """8, as a rule."""
        return int(self.pipe.vae_scale_factor)

    @property
    def native_size(self) -> tuple[int, int]:
        """The UNet's `sample_size`, one number or two, in pixels."""
        size = self.pipe.unet.config.sample_size
        if size is None:
            raise PerfError(
                "this UNet does not say what size it was made for",
                hint="set width and height under [render] in the base's perf-base.toml",
            )
        height, width = (size, size) if isinstance(size, int) else size
        return int(height * self.pixels_per_latent), int(width * self.pixels_per_latent)

    def inputs(self, wanted: Conditioning, unwanted: Conditioning) -> dict[str, Any]:
        """`prompt_embeds` and `negative_prompt_embeds`, in the format of the weights."""
        embeds = {"prompt_embeds": wanted, "negative_prompt_embeds": unwanted}
        return {name: branch.states.to(self.device, self.dtype) for name, branch in embeds.items()}


def _require_latents_alone(files: BaseFiles) -> None:
    """Raise PerfError unless the UNet takes latents, and nothing beside them, of an autoencoder of ours."""
    named = files.classes.get("vae")
    if named != "AutoencoderKL":
        raise PerfError(
            f"the base's autoencoder is an {named}, and perf can only learn from those of an AutoencoderKL",
            where=str(files.folder),
            hint=SUITABLE,
        )
    taken = files.configuration("unet").get("in_channels", 4)
    given = files.configuration("vae").get("latent_channels", 4)
    if taken != given:
        raise PerfError(
            f"the base's UNet takes {taken} channels and a latent has {given}: perf cannot train with one "
            "that is made for inpainting, for editing or for making pictures larger",
            where=str(files.folder / "unet"),
            hint="build with the base that it was made from; in programs, `composed` draws in its pipeline",
        )


def _fp32_text_encoder(own: Any, description: BaseDescription | None) -> Any:
    """The text encoder in fp32: a pipeline's own one, else from the base's files, else a copy."""
    import torch

    if own.dtype == torch.float32:
        return own
    if description is None:
        return copy.deepcopy(own).float()
    from transformers import CLIPTextModel

    from perfusion_registry.base.pretrained import load_pretrained

    folder = description.folder / "text_encoder"
    return load_pretrained(
        CLIPTextModel, folder, "the text encoder", dtype=torch.float32, variant=description.variant
    )


ARCHITECTURE = StableDiffusion()
