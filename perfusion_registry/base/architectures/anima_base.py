"""A loaded Anima, and the modular pipeline that draws with it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from perfusion_registry.base.architectures import transformer
from perfusion_registry.base.autoencoder import Posterior
from perfusion_registry.base.conditioning import Conditioning, Embeddings
from perfusion_registry.base.objective import FlowMatching, Objective
from perfusion_registry.base.pretrained import load_pretrained, quiet
from perfusion_registry.base.text_encoding import embedding_values, replaced_embeddings, text_mask
from perfusion_registry.base.tokens import ChunkEnd, ConceptPiece, Tokens
from perfusion_registry.base.whole_tokens import several_pieces, whole_tokens
from perfusion_registry.errors import PerfError

_TEXT_STEPS = ("AnimaTextEncoderStep", "AnimaTextConditioningStep")


@dataclass(frozen=True, eq=False, kw_only=True)
class AnimaBase(transformer.TransformerBase):
    """A loaded Anima.

    text_conditioner, text_encoder: always fp32, because gates are taken in the metric of C^-1, which
    amplifies rounding; the pipeline's own ones have `dtype`, and are the same objects where that is fp32.
    """

    text_conditioner: Any
    text_encoder: Any

    attends_to_padding: ClassVar[bool] = False
    """It does, but zeros add nothing to C."""
    guided_together: ClassVar[bool] = False
    pipelines: ClassVar = dict.fromkeys(("text", "image"), "diffusers:AnimaModularPipeline")

    # Text

    @cached_property
    def _tokenizers(self) -> tuple[Any, Any]:
        """T5's and Qwen's; copies, since a pipeline sets padding on its own."""
        return copy.deepcopy(self.pipe.t5_tokenizer), copy.deepcopy(self.pipe.tokenizer)

    def tokenise(self, pieces: Sequence[str | ConceptPiece | ChunkEnd], *, whole: bool = True) -> Tokens:
        """All of it at once, by T5's tokenizer and by Qwen's; the positions are T5's."""
        first, second = (whole_tokens(tokenizer, pieces, self.text_length) for tokenizer in self._tokenizers)
        return first.beside(second)

    def tokenise_captions(self, captions: Sequence[str]) -> list[Tokens]:
        """All at once."""
        both = (
            tokenizer(list(captions), truncation=True, max_length=self.text_length).input_ids
            for tokenizer in self._tokenizers
        )
        return [
            Tokens((tuple(first), tuple(second)), len(first), lengths=(len(first), len(second)))
            for first, second in zip(*both, strict=True)
        ]

    def encode(
        self, prompts: Sequence[Tokens], embeddings: Embeddings | None = None, *, length: int | None = None
    ) -> Conditioning:
        """What the conditioner makes of T5's tokens and of what Qwen says."""
        positions = length or max(len(row.ids[0]) for row in prompts)
        (targets, target_mask), (sources, source_mask) = (self._ids(prompts, k) for k in (0, 1))
        table = replaced_embeddings(self.text_conditioner.embed, embedding_values(prompts, embeddings, 0))
        own = replaced_embeddings(self.text_encoder.embed_tokens, embedding_values(prompts, embeddings, 1))
        with torch.autocast(self.text_device.type, enabled=False), table, own:
            said = self.text_encoder(input_ids=sources, attention_mask=source_mask.long())
            states = said.last_hidden_state.masked_fill(~source_mask[..., None], 0)
            E: Tensor = self.text_conditioner(states, targets, target_mask.long(), source_mask.long()).float()
        mask = torch.zeros(len(prompts), positions, dtype=torch.bool, device=self.text_device)
        mask[:, : target_mask.shape[1]] = target_mask
        return Conditioning(E[:, :positions], mask)

    def _ids(self, prompts: Sequence[Tokens], encoder: int) -> tuple[Tensor, Tensor]:
        """The ids (B, n) of one of the two, up to the longest of the prompts, and where they are text: as the
        pipeline pads them. One of no tokens at all is one of padding."""
        lengths = [row.lengths[encoder] for row in prompts]
        n = max(1, *lengths)
        padding = self._tokenizers[encoder].pad_token_id if any(lengths) else 0
        rows = [
            [*row.ids[encoder][:own], *[padding] * (n - own)]
            for row, own in zip(prompts, lengths, strict=True)
        ]
        return torch.tensor(rows, device=self.text_device), text_mask(lengths, n, self.text_device)

    @property
    def text_length(self) -> int:
        """512 positions."""
        return int(self.text_conditioner.config.min_sequence_length)

    @property
    def embedding_tables(self) -> Sequence[nn.Embedding]:
        """The conditioner's, of T5's tokens, and Qwen's."""
        return [self.text_conditioner.embed, self.text_encoder.embed_tokens]

    def several_tokens(self, word: str) -> str | None:
        """Of T5's, by which it is found."""
        return several_pieces(self._tokenizers[0], word)

    # Denoising

    @cached_property
    def objective(self) -> Objective:
        """Flow matching."""
        return FlowMatching(float(self.noise_steps))

    def answer(self, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """One call of the transformer, of one frame, none of which is padding."""
        height, width = (side * self.pixels_per_latent for side in x.shape[-2:])
        answer: Tensor = self.denoiser(
            hidden_states=x.unsqueeze(2).to(self.dtype),
            timestep=t.expand(len(x)).to(self.dtype) / self.noise_steps,
            encoder_hidden_states=conditioning.states.to(self.dtype),
            padding_mask=x.new_zeros(1, 1, height, width, dtype=self.dtype),
        ).sample
        return answer[:, :, 0]

    # Pictures

    def latents(self, images: Tensor) -> Posterior:
        """By the VAE, each picture as a film of one frame."""
        vae = self.pipe.vae
        shift, scale = self._units
        means, stds = [], []
        with torch.inference_mode(), self.autocast():
            for image in images.to(self.device, vae.dtype):
                posterior = vae.encode((image * 2 - 1)[None, :, None]).latent_dist
                means.append((posterior.mean.float() - shift) / scale)
                stds.append(posterior.std.float() / scale)
        mean, std = (torch.cat(parts)[:, :, 0].clone() for parts in (means, stds))
        return Posterior(mean, std)

    def pictures(self, latents: Tensor) -> Tensor:
        """By the VAE."""
        shift, scale = self._units
        with torch.inference_mode(), self.autocast():
            frames = latents.unsqueeze(2) * scale + shift
            shown: Tensor = self.pipe.vae.decode(frames.to(self.pipe.vae.dtype)).sample[:, :, 0]
        return (shown.float() / 2 + 0.5).clamp(0, 1)

    def reconstructed(self, images: Tensor) -> Tensor:
        """By the VAE, in its own format."""
        vae = self.pipe.vae
        with torch.inference_mode():
            frames = (images * 2 - 1)[:, :, None].to(vae.device, vae.dtype)
            shown: Tensor = vae.decode(vae.encode(frames).latent_dist.mode()).sample[:, :, 0]
        return (shown.float().cpu() / 2 + 0.5).clamp(0, 1)

    @property
    def _units(self) -> tuple[Tensor, Tensor]:
        """The means and deviations (1, c, 1, 1, 1) by which the VAE's latents are the denoiser's."""
        config = self.pipe.vae.config
        mean, std = (
            torch.tensor(numbers, device=self.device).view(1, -1, 1, 1, 1)
            for numbers in (config.latents_mean, config.latents_std)
        )
        return mean, std

    @property
    def pixels_per_latent(self) -> int:
        """8, as a rule."""
        return int(self.pipe.vae_scale_factor)

    @property
    def pixels_per_step(self) -> int:
        """One patch of latents."""
        return int(self.denoiser.config.patch_size[-1]) * self.pixels_per_latent  # type: ignore[union-attr, index]

    @property
    def native_size(self) -> tuple[int, int]:
        """The pipeline's own."""
        return int(self.pipe.default_height), int(self.pipe.default_width)

    # Pipelines

    def inputs(self, wanted: Conditioning, unwanted: Conditioning) -> dict[str, Any]:
        """Both branches' embeddings, in the format of the weights, for a pipeline without its text steps."""
        embeds = {"prompt_embeds": wanted, "negative_prompt_embeds": unwanted}
        return {name: branch.states.to(self.device, self.dtype) for name, branch in embeds.items()}

    @contextmanager
    def taking_encodings(self) -> Iterator[None]:
        """The pipeline, and what `pipeline` makes of it, has no steps that read text meanwhile."""
        whole = self.pipe._blocks
        try:
            self.pipe._blocks = _without_text(whole)
            yield
        finally:
            self.pipe._blocks = whole

    def pipeline(self, kind: str = "text", *, scheduler: str | None = None, **beside: Any) -> Any:
        """See `Base.pipeline`."""
        pipe = super().pipeline(kind, scheduler=scheduler, **beside)
        pipe._blocks = copy.deepcopy(pipe._blocks)
        for block in _blocks_within(pipe._blocks):
            if hasattr(block, "set_progress_bar_config"):
                block.set_progress_bar_config(disable=True)
        return pipe

    def drawn(
        self,
        pipe: Any,
        inputs: Mapping[str, Any],
        *,
        steps: int,
        guidance: float,
        generators: Sequence[torch.Generator],
        after_step: Callable[[], None],
    ) -> list[Any]:
        """By the pipeline's guider; what a modular pipeline calls after each step is its scheduler alone."""
        with quiet():
            from diffusers import ClassifierFreeGuidance

            pipe.guider = ClassifierFreeGuidance(guidance_scale=guidance)
        step = pipe.scheduler.step

        def counted(*arguments: Any, **named: Any) -> Any:
            after_step()
            return step(*arguments, **named)

        pipe.scheduler.step = counted
        size = {}  # of the picture: else the pipeline takes its default
        if "image" in inputs and "width" not in inputs:
            size = dict(zip(("width", "height"), inputs["image"][0].size, strict=True))
        images: list[Any] = pipe(
            **inputs, **size, num_inference_steps=steps, generator=list(generators), output="images"
        )
        return images


def assembled(components: Mapping[str, Any], scheduler: Path) -> Any:
    """Anima's modular pipeline of these components. scheduler: the folder of its own."""
    try:
        from diffusers import AnimaAutoBlocks, FlowMatchEulerDiscreteScheduler
    except ImportError as error:
        raise PerfError(
            "this version of diffusers does not have Anima", hint="pip install --upgrade diffusers"
        ) from error
    own = load_pretrained(FlowMatchEulerDiscreteScheduler, scheduler, "the base's scheduler")
    with quiet():
        pipe: Any = AnimaAutoBlocks().init_pipeline()
        pipe.update_components(**components, scheduler=own)
    return pipe


def _without_text(blocks: Any) -> Any:
    """A copy of a pipeline's blocks without those that read text."""
    pruned = copy.deepcopy(blocks)
    for block in (pruned, *_blocks_within(pruned)):
        for name, part in list(getattr(block, "sub_blocks", {}).items()):
            if type(part).__name__ in _TEXT_STEPS:
                del block.sub_blocks[name]
    return pruned


def _blocks_within(blocks: Any) -> Iterator[Any]:
    for part in getattr(blocks, "sub_blocks", {}).values():
        yield part
        yield from _blocks_within(part)
