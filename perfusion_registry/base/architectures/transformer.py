"""What architectures with diffusers' transformers have in common: where their text is, and their residuals.

The paper of personalised residuals has UNets alone, each of whose transformer blocks ends in a projection. A
block of a transformer has none, so a residual is added to what its text cross-attention writes, by
`attn2.to_out.0`: an extension that the paper does not cover.

Which transformers they are is listed: in another one (Stable Diffusion 3.5), `attn2` is self-attention.
Importing this needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from perfusion_registry.base.architectures.cross_attention import cross_attention_shapes
from perfusion_registry.base.files import BaseFiles
from perfusion_registry.base.interface import Base
from perfusion_registry.base.layers import CrossAttention, ModuleSlot, ResidualBlock
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from torch import nn

CLASSES = frozenset({"CosmosTransformer3DModel", "PixArtTransformer2DModel"})
"""Of diffusers: those whose `transformer_blocks.*.attn2` reads text, and nothing else does."""

CLIP_SPREAD = 0.014
"""About the standard deviation of the token embeddings of Stable Diffusion 1.5's text encoder."""


def cross_attentions(transformer: Any) -> list[CrossAttention]:
    """The attn2 of each block, in their order. Raises PerfError where they cannot be worked with."""
    assert type(transformer).__name__ in CLASSES
    found = [
        CrossAttention(f"transformer_blocks.{number}.attn2", block.attn2)
        for number, block in enumerate(transformer.transformer_blocks)
    ]
    for attention in found:
        if getattr(attention.module, "fused_projections", False):
            raise PerfError(
                "this transformer's attention projections are fused",
                where=attention.path,
                hint="call unfuse_qkv_projections() first",
            )
    return found


def layers_in_files(files: BaseFiles) -> list[tuple[str, int, int, int]]:
    """(path, K width, V width, d) of each layer of a base's transformer. Raises PerfError for none."""
    layers = cross_attention_shapes(files.tensors("transformer"))
    if not layers:
        raise PerfError(
            "the base's transformer has no text cross-attention", where=files.place("transformer")
        )
    return layers


@dataclass(frozen=True, eq=False, kw_only=True)
class TransformerBase(Base):
    """A loaded base with one of diffusers' transformers; its text and pictures are its architecture's."""

    @property
    def embedding_scales(self) -> Sequence[float]:
        """By their standard deviations: T5's numbers are hundreds of times those of CLIP."""
        return [float(table.weight.std()) / CLIP_SPREAD for table in self.embedding_tables]

    @property
    def denoiser(self) -> nn.Module:
        """The transformer."""
        denoiser: nn.Module = self.pipe.transformer
        return denoiser

    @cached_property
    def cross_attentions(self) -> Sequence[CrossAttention]:
        """The attn2 of each block."""
        return cross_attentions(self.denoiser)

    @cached_property
    def residual_blocks(self) -> Sequence[ResidualBlock]:
        """Each block, which writes what text says by the output projection of its cross-attention."""
        return [
            ResidualBlock(
                f"{attention.path}.to_out.0", ModuleSlot(attention.module.to_out, "0"), (attention.path,)
            )
            for attention in self.cross_attentions
        ]
