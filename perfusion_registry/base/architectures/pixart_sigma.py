"""PixArt-Sigma: a transformer that reads a T5 encoder's states through a caption projection.

A prompt is 300 tokens of T5, lower-case, as the pipeline has it; the layers do not look at the padding, and
no edit changes it. What K and V read, and so E, C and i*, is behind the caption projection, which is
trained with the transformer: it is part of the family. T5 reads words in both directions, so what a concept's
token says depends on the words behind it too. The transformer answers the noise, and beside it a variance
that is not asked for here.

Bases are recognised and described without torch, so what needs it is imported where it is used.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from perfusion_registry.base.architectures import transformer
from perfusion_registry.base.architectures.image_latents import ImageLatentsBase, require_fitting_latents
from perfusion_registry.base.architectures.text_encoders import fp32_text_encoder, live_text_encoder
from perfusion_registry.base.architectures.tokenizers import load_fast_tokenizer, require_tokenizer
from perfusion_registry.base.card import BaseCard
from perfusion_registry.base.family import family_digest, model_digest
from perfusion_registry.base.files import BaseFiles
from perfusion_registry.base.identity import BaseDescription
from perfusion_registry.base.interface import Base
from perfusion_registry.base.kinds import SUITABLE
from perfusion_registry.base.layers import ModuleSlot
from perfusion_registry.base.tokens import ChunkEnd, ConceptPiece, Tokens
from perfusion_registry.base.trainable import require_noise_chain, require_size
from perfusion_registry.base.whole_tokens import several_pieces, whole_tokens
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from perfusion_registry.base.conditioning import Conditioning, Embeddings
    from perfusion_registry.base.scorer import Scorer

LENGTH = 300
"""Positions of a prompt, as the pipeline has them."""
_CAPTIONS = "caption_projection."
_COMPONENTS = {"tokenizer", "text_encoder", "transformer", "vae", "scheduler"}
_PUBLISHED = "Transformer2DModel"
"""What PixArt's own files call the transformer's class, which diffusers reads as the one that it is."""


class PixArtSigma:
    """The architecture; see `base.architecture.Architecture`."""

    name = "pixart-sigma"
    models = ("text_encoder", "transformer", "vae")
    text = ("text_encoder", "tokenizer")

    def recognise(self, files: BaseFiles) -> bool:
        """By the classes of its components, and of its pipeline: PixArt-alpha's has the same components."""
        classes = files.classes
        return (
            files.index.get("_class_name") == "PixArtSigmaPipeline"
            and classes.get("transformer") in ("PixArtTransformer2DModel", _PUBLISHED)
            and classes.get("text_encoder") == "T5EncoderModel"
            and set(files.components) <= _COMPONENTS
        )

    def family(self, files: BaseFiles) -> str:
        """Of the text encoder, the caption projection, and the shapes of the layers behind it."""
        require_fitting_latents(files, "transformer")
        told, text = files.configuration("transformer"), files.configuration("text_encoder")
        more = told.get("use_additional_conditions")
        if more or (more is None and told.get("sample_size", 128) == 128):
            raise PerfError(
                "the base's transformer is also told the size of each picture, as PixArt-alpha's is, "
                "which perf does not give it",
                where=files.place("transformer"),
                hint=SUITABLE,
            )
        layers = transformer.layers_in_files(files)
        inner = told.get("num_attention_heads", 16) * told.get("attention_head_dim", 72)
        if told.get("caption_channels") != text.get("d_model") or {layer[3] for layer in layers} != {inner}:
            raise PerfError(
                "the base's transformer and its text encoder do not fit together: it reads "
                f"{told.get('caption_channels')} numbers of each token, and gets {text.get('d_model')}",
                where=files.place("transformer"),
                hint="fetch the base again, or check which text encoder it was saved with",
            )
        return family_digest([text], self.text_weights(files), layers)

    def text_weights(self, files: BaseFiles) -> list[str]:
        """Of T5 and of the caption projection."""
        return [
            model_digest(files.tensor_files("text_encoder")),
            model_digest(files.tensor_files("transformer"), _CAPTIONS),
        ]

    def require_trainable(self, files: BaseFiles, card: BaseCard) -> None:
        """A chain of noise levels, a size, and a tokenizer."""
        require_noise_chain(files)
        require_tokenizer(files.folder / "tokenizer")
        require_size(files, card, "transformer")

    def tokenizer(self, description: BaseDescription) -> Any:
        """T5's, alone."""
        return load_fast_tokenizer("T5TokenizerFast", description.folder / "tokenizer")

    def load(
        self,
        description: BaseDescription,
        device: torch.device,
        dtype: torch.dtype,
        compute_dtype: torch.dtype,
        scorer: Scorer | None,
    ) -> Base:
        """Its pipeline, and the text encoder in fp32 beside it."""
        from perfusion_registry.base.pretrained import load_pipeline, move, quiet, require_all_weights

        with quiet():
            from diffusers import PixArtSigmaPipeline

        tokenizer = self.tokenizer(description)
        pipe = load_pipeline(PixArtSigmaPipeline, description, dtype, tokenizer=tokenizer)
        text_encoder = fp32_text_encoder(pipe.text_encoder, description, shared=True)
        for model, name in ((pipe.transformer, "transformer"), (text_encoder, "text_encoder")):
            require_all_weights(model, description.folder / name, description.variants.get(name))
        move((pipe.transformer, pipe.vae, pipe.text_encoder, text_encoder), device)
        base = PixArtSigmaBase(
            pipe=pipe,
            text_encoder=text_encoder,
            device=device,
            dtype=dtype,
            compute_dtype=compute_dtype,
            description=description,
            scorer=scorer,
        )
        _ = base.bank  # a transformer that cannot be worked with is told now
        return base

    def wrap(self, pipe: Any, description: BaseDescription | None) -> Base | None:
        """Any pipeline with PixArt's transformer and one T5 encoder that reads 300 tokens."""
        parts = {name: type(part).__name__ for name, part in pipe.components.items() if part is not None}
        named = (parts.get("transformer"), parts.get("text_encoder"))
        if named != ("PixArtTransformer2DModel", "T5EncoderModel") or "Sigma" not in type(pipe).__name__:
            return None
        from perfusion_registry.base.architectures.cross_attention import cross_attention_shapes
        from perfusion_registry.base.exclusive import exclusive
        from perfusion_registry.base.live import live_identity
        from perfusion_registry.base.offloading import execution_device

        denoiser, own = pipe.transformer, pipe.text_encoder
        with exclusive(denoiser):  # another thread may have a composition attached
            identity = description or live_identity(
                pipe,
                self.name,
                [own],
                cross_attention_shapes(denoiser.state_dict()),
                [(own, ""), (denoiser, _CAPTIONS)],
            )
            base = PixArtSigmaBase(
                pipe=pipe,
                text_encoder=live_text_encoder(own, denoiser, description),
                device=execution_device(pipe, denoiser),
                dtype=denoiser.dtype,
                compute_dtype=denoiser.dtype,
                description=identity,
            )
            _ = base.bank  # what cannot be worked with is told now
        return base


@dataclass(frozen=True, eq=False, kw_only=True)
class PixArtSigmaBase(transformer.TransformerBase, ImageLatentsBase):
    """A loaded PixArt-Sigma.

    text_encoder: always fp32, because gates are taken in the metric of C^-1, which amplifies rounding; the
    pipeline's own one has `dtype`, and is the same object where that is fp32.
    """

    text_encoder: Any

    attends_to_padding: ClassVar[bool] = False
    pipelines: ClassVar = {"text": "diffusers:PixArtSigmaPipeline"}

    @cached_property
    def _tokenizer(self) -> Any:
        """A copy for prompts: in whichever thread the pipeline draws, it sets padding on its own."""
        return copy.deepcopy(self.pipe.tokenizer)

    def tokenise(self, pieces: Sequence[str | ConceptPiece | ChunkEnd], *, whole: bool = True) -> Tokens:
        """All of it at once, in lower case."""
        lower = [
            replace(piece, word=piece.word.lower())
            if isinstance(piece, ConceptPiece)
            else piece.lower()
            if isinstance(piece, str)
            else piece
            for piece in pieces
        ]
        return whole_tokens(self._tokenizer, lower, self.text_length)

    def tokenise_captions(self, captions: Sequence[str]) -> list[Tokens]:
        """All at once."""
        lower = [caption.lower().strip() for caption in captions]
        rows = self._tokenizer(lower, truncation=True, max_length=self.text_length).input_ids
        return [Tokens((tuple(row),), len(row)) for row in rows]

    def encode(
        self, prompts: Sequence[Tokens], embeddings: Embeddings | None = None, *, length: int | None = None
    ) -> Conditioning:
        """What the caption projection makes of the text encoder's last states."""
        from perfusion_registry.base.conditioning import Conditioning

        states, mask = self.states(prompts, embeddings, length=length)
        return Conditioning(self.bank.projected(states), mask)

    def states(
        self, prompts: Sequence[Tokens], embeddings: Embeddings | None = None, *, length: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """The text encoder's last states (B, n, d_text), as the pipeline takes them, and where there is text,
        (B, n) bool. Arguments as of `encode`."""
        from perfusion_registry.base.text_encoding import embedding_values, padded_ids, t5_states, text_mask

        ids = padded_ids(prompts, 0, self.pipe.tokenizer.pad_token_id, length).to(self.text_device)
        mask = text_mask([row.length for row in prompts], ids.shape[1], self.text_device)
        values = embedding_values(prompts, embeddings, 0)
        return t5_states(self.text_encoder, ids, mask, values), mask

    @property
    def text_length(self) -> int:
        """300 positions."""
        return LENGTH

    @property
    def embedding_tables(self) -> Sequence[nn.Embedding]:
        """The one that the T5 encoder reads from."""
        return [self.text_encoder.encoder.embed_tokens]

    def several_tokens(self, word: str) -> str | None:
        """Which it is in."""
        return several_pieces(self._tokenizer, word.lower())

    @property
    def caption_projection(self) -> Sequence[ModuleSlot]:
        """The transformer's."""
        return [ModuleSlot(self.denoiser, "caption_projection")]

    def answer(self, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """One call of the transformer, and of its answer the noise alone."""
        mask = conditioning.mask
        answer: Tensor = self.denoiser(
            x.to(self.dtype),
            encoder_hidden_states=conditioning.states.to(self.dtype),
            encoder_attention_mask=None if mask is None else mask.to(x.device),
            timestep=t.expand(len(x)),
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        ).sample
        return answer[:, : x.shape[1]]

    @property
    def pixels_per_step(self) -> int:
        """One patch of latents, two latents wide as a rule."""
        return int(self.pipe.transformer.config.patch_size) * self.pixels_per_latent

    @property
    def native_size(self) -> tuple[int, int]:
        """The transformer's `sample_size`, in pixels."""
        side = int(self.pipe.transformer.config.sample_size) * self.pixels_per_latent
        return side, side

    def inputs(self, wanted: Conditioning, unwanted: Conditioning) -> dict[str, Any]:
        """Both branches' embeddings, in the format of the weights, and their masks; drawn in the very size
        that is asked for."""
        given: dict[str, Any] = {"negative_prompt": None, "use_resolution_binning": False}
        for sign, branch in (("", wanted), ("negative_", unwanted)):
            assert branch.mask is not None
            given[f"{sign}prompt_embeds"] = branch.states.to(self.device, self.dtype)
            given[f"{sign}prompt_attention_mask"] = branch.mask.to(self.device).long()
        return given

    def plain_inputs(self, prompts: Sequence[str], unwanted: Sequence[str]) -> dict[str, Any]:
        """The pipeline's own, whose captions are not cleaned: that would depend on what else is installed."""
        as_they_are = {"clean_caption": False, "use_resolution_binning": False}
        return super().plain_inputs(prompts, unwanted) | as_they_are


ARCHITECTURE = PixArtSigma()
