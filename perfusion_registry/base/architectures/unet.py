"""What architectures with diffusers' UNet have in common: where its text and its transformer blocks are.

Importing this needs no torch.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from perfusion_registry.base.architectures.cross_attention import cross_attention_shapes
from perfusion_registry.base.architectures.image_latents import ImageLatentsBase
from perfusion_registry.base.architectures.text_encoders import fp32_text_encoder
from perfusion_registry.base.family import family_digest, layer_order
from perfusion_registry.base.files import BaseFiles
from perfusion_registry.base.identity import BaseDescription, BaseIdentity
from perfusion_registry.base.kinds import SUITABLE
from perfusion_registry.base.layers import CrossAttention, ModuleSlot, ResidualBlock
from perfusion_registry.base.live import live_identity
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from perfusion_registry.base.readers import Reader


OPTIONS = frozenset({"clip_skip", "vae", "unet", "lora", "embeddings", "controls"})
"""What of `[base]` `load_parts` applies, and `base.controls`."""

# What a UNet's configuration says if it has to be told more than a time and text, and what that is.
_MORE = {
    "class_embed_type": "a class or a picture",
    "num_class_embeds": "a class or a level of noise",
    "addition_embed_type": "more than its text",
    "encoder_hid_dim_type": "text in another projection",
}


def require_text_alone(files: BaseFiles, allowed: Mapping[str, str] = MappingProxyType({})) -> None:
    """Raise PerfError where the UNet has to be told more than a time and text. allowed: what it may say all
    the same, by key."""
    configuration = files.configuration("unet")
    for key, what in _MORE.items():
        if configuration.get(key) not in (None, allowed.get(key)):
            raise PerfError(
                f"the base's UNet also takes {what} ({key} = {configuration[key]!r}), "
                "which perf cannot give it",
                where=files.place("unet"),
                hint=SUITABLE,
            )


def cross_attentions(unet: nn.Module) -> list[CrossAttention]:
    """Every attn2, sorted by path with numbers as numbers: down, mid, up, as they run.

    Raises PerfError where there is none, or where text is changed between encoder and projections.
    """
    attentions = _text_layers(unet)
    config: Any = getattr(unet, "config", {})
    if not attentions:
        raise PerfError("this model has no text cross-attention that could be edited", hint=SUITABLE)
    if config.get("encoder_hid_dim_type") is not None:
        raise PerfError("this UNet projects its text encodings before the cross-attention", hint=SUITABLE)
    for attention in attentions:
        if getattr(attention.module, "norm_cross", None):
            raise PerfError(
                "this UNet normalises its text encodings in each layer", where=attention.path, hint=SUITABLE
            )
        if getattr(attention.module, "fused_projections", False):
            raise PerfError(
                "this UNet's attention projections are fused",
                where=attention.path,
                hint="call unfuse_qkv_projections() first",
            )
    return sorted(attentions, key=lambda attention: layer_order(attention.path))


def _text_layers(network: nn.Module) -> list[CrossAttention]:
    return [
        CrossAttention(path, module)
        for path, module in network.named_modules()
        if path.rpartition(".")[2] == "attn2" and hasattr(module, "to_k") and hasattr(module, "to_v")
    ]


def controlnets(pipe: Any) -> list[Reader]:
    """Those of a pipeline, one or several. Raises PerfError for one whose layers cannot be worked with."""
    own = pipe.components.get("controlnet")
    return [] if own is None else [reader_of(network) for network in getattr(own, "nets", [own])]


def reader_of(network: nn.Module) -> Reader:
    """A network beside the UNet, and its layers that read text; a T2I-Adapter and a small ControlNet have
    none. Raises PerfError for one whose layers cannot be worked with."""
    from perfusion_registry.base.readers import Reader

    may_have_none = any(hasattr(network, part) for part in ("controlnet_cond_embedding", "adapter"))
    return Reader(network, [] if may_have_none and not _text_layers(network) else cross_attentions(network))


def residual_blocks(unet: nn.Module) -> list[ResidualBlock]:
    """What the paper calls a block: attention layers between two projections, `proj_in` and `proj_out`, of
    which diffusers may have several layers deep."""
    layers = [attention.path for attention in cross_attentions(unet)]
    blocks = [
        (path, module)
        for path, module in unet.named_modules()
        if hasattr(module, "proj_out") and hasattr(module, "transformer_blocks")
    ]
    return [
        ResidualBlock(
            path,
            ModuleSlot(module, "proj_out"),
            tuple(layer for layer in layers if layer.startswith(f"{path}.")),
        )
        for path, module in sorted(blocks, key=lambda item: layer_order(item[0]))
    ]


@dataclass(frozen=True, eq=False, kw_only=True)
class UNetBase(ImageLatentsBase):
    """A loaded base with diffusers' UNet and autoencoder of images; its text is its architecture's."""

    reads_in_chunks: ClassVar = True

    @property
    def denoiser(self) -> nn.Module:
        """The UNet."""
        denoiser: nn.Module = self.pipe.unet
        return denoiser

    @cached_property
    def cross_attentions(self) -> Sequence[CrossAttention]:
        """Every attn2 of the UNet."""
        return cross_attentions(self.denoiser)

    @cached_property
    def readers(self) -> Sequence[Reader]:
        """The pipeline's ControlNets."""
        return controlnets(self.pipe)

    @cached_property
    def residual_blocks(self) -> Sequence[ResidualBlock]:
        """Its transformer blocks between `proj_in` and `proj_out`."""
        return residual_blocks(self.denoiser)

    def plain_inputs(self, prompts: Sequence[str], unwanted: Sequence[str]) -> dict[str, Any]:
        """The pipeline's own, unless words were put into the base: diffusers would find these within other
        words too."""
        if not self.description.options.embeddings:
            return super().plain_inputs(prompts, unwanted)
        wanted, led_from = (
            self.encode([self.tokenise([text], whole=False) for text in texts], length=self.text_length)
            for texts in (prompts, unwanted)
        )
        return self.inputs(wanted, led_from if any(unwanted) else self.without_negative(led_from))

    @property
    def draws(self) -> Collection[str]:
        """All kinds, unless the UNet takes a masked picture beside the latents."""
        beside = self.pipe.unet.config.in_channels != self.vae.config.latent_channels
        return ("inpaint",) if beside else ("text", "image", "inpaint")

    def pipeline(self, kind: str = "text", *, scheduler: str | None = None, **beside: Any) -> Any:
        """See `Base.pipeline`. A mask is for latents of any number of channels: diffusers' pipelines refuse
        other UNets than those of 4, and of 9 with a masked picture, so they see one of 4."""
        pipe = super().pipeline(kind, scheduler=scheduler, **beside)
        if kind.startswith("inpaint") and "text" in self.draws and pipe.unet.config.in_channels != 4:
            pipe.unet = copy.copy(pipe.unet)  # with its very layers, and a configuration of its own
            pipe.unet.register_to_config(in_channels=4)
        return pipe

    @property
    def native_size(self) -> tuple[int, int]:
        """The UNet's `sample_size`, one number or two, in pixels."""
        size = self.pipe.unet.config.sample_size
        if size is None:
            raise PerfError(
                "this UNet does not say what size it was made for",
                hint="set width and height under [base] in perfusion.toml",
            )
        height, width = (size, size) if isinstance(size, int) else size
        return int(height * self.pixels_per_latent), int(width * self.pixels_per_latent)


def load_parts(
    kind: Any, description: BaseDescription, dtype: torch.dtype, encoders: Sequence[str], **options: Any
) -> tuple[Any, list[Any]]:
    """A described base's pipeline of class `kind`, and beside it its text encoders in fp32: the pipeline's
    own where it has them so.

    Raises PerfError where weights are missing: the libraries would only fill them with noise.
    """
    from perfusion_registry.base.architectures.altered import altered, other_autoencoder, other_unet
    from perfusion_registry.base.checkpoint_loading import checkpoint_files, load_checkpoint
    from perfusion_registry.base.pretrained import load_pipeline, require_all_weights

    if description.options.vae is not None:
        options["vae"] = other_autoencoder(description, dtype)
    if description.options.unet is not None:
        options["unet"] = other_unet(description, dtype)
    if description.in_one_file:
        pipe, in_fp32 = load_checkpoint(kind, description, dtype, **options)
        size = checkpoint_files(description).configuration("unet")["sample_size"]
        pipe.unet.register_to_config(sample_size=size)  # which its layout alone does not decide
    else:
        pipe = load_pipeline(kind, description, dtype, **options)
        in_fp32 = [
            fp32_text_encoder(getattr(pipe, name), description, name, shared=True) for name in encoders
        ]
        for model, name in zip((pipe.unet, *in_fp32), ("unet", *encoders), strict=True):
            require_all_weights(model, description.folder / name, description.variants.get(name))
    altered(pipe, dict(zip(encoders, in_fp32, strict=True)), description)
    return pipe, in_fp32


def live_unet_identity(pipe: Any, architecture: str, encoders: Sequence[Any]) -> BaseIdentity:
    """What a live pipeline with a UNet is (see `live_identity`)."""
    from perfusion_registry.base.quantised import widths

    layers = []
    for layer in cross_attentions(pipe.unet):
        (keys, width), (values, _) = widths(layer.module.to_k), widths(layer.module.to_v)
        layers.append((layer.path, keys, values, width))
    return live_identity(pipe, architecture, encoders, layers)


def file_family(files: BaseFiles, encoders: Sequence[str]) -> str:
    """The family of a base in files. encoders: the components that are its text encoders.

    Raises PerfError where its UNet has no text cross-attention.
    """
    layers = cross_attention_shapes(files.tensors("unet"))
    if not layers:
        raise PerfError("the base's UNet has no text cross-attention", where=str(files.folder), hint=SUITABLE)
    weights = [digest for encoder in encoders for digest in files.text_digests(encoder)]
    return family_digest([files.configuration(encoder) for encoder in encoders], weights, layers)


def load_clip_tokenizer(description: BaseDescription, component: str = "tokenizer") -> Any:
    """One of a base's CLIP tokenizers, alone."""
    from perfusion_registry.base.checkpoint_loading import load_tokenizer
    from perfusion_registry.base.pretrained import load_pretrained, quiet

    if description.in_one_file:
        return load_tokenizer(description, component)
    with quiet():
        from transformers import CLIPTokenizer

    return load_pretrained(CLIPTokenizer, description.folder / component, "the base's tokenizer")
