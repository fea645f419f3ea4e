"""A concept as plain adapters and a word, for programs that know no gates: what its method brings, ungated.

Eq. 2 for one concept is linear in an encoding e, so it is a rank-one change of every K and V projection:
    W e + (o - W i) (v . e) / (i . v)     down = v^T / (i . v) (1, d), up = o - W i (m', 1)
a residual B A is a LoRA of the blocks' output projections, applied everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from perfusion_registry.adapters.adapter import DENOISER, Adapter, WordVectors

if TYPE_CHECKING:
    from perfusion_registry.base import Base
    from perfusion_registry.methods.contribution import Contribution


@torch.no_grad()
def plain_adapters(base: Base, contribution: Contribution) -> tuple[Adapter, ...]:
    """The change of the denoiser that a concept makes where no gate is asked: its part of Eq. 4 as Eq. 2 has
    it, exactly of this base, its residual and its changes of single modules, at their strength; a whole one
    is a LoRA of full rank, which every program reads. fp32, on the CPU."""
    adapters = []
    target = contribution.target
    if target is not None:
        down = (target.v / (target.i @ target.v))[None].cpu()  # (1, d)
        up = (target.o - base.bank.emitted(target.i))[:, None].cpu()  # (D, 1)
        for layer in base.bank.layers:
            for name, rows in (("to_k", layer.key_slice), ("to_v", layer.value_slice)):
                factors = {"lora_down": down, "lora_up": up[rows]}
                adapters.append(Adapter(DENOISER, f"{layer.path}.{name}", "lora", factors, 1.0))
    for block in base.residual_blocks if contribution.factors else ():
        A, B = contribution.factors[block.path]
        weight = block.projection.module.weight
        ones = [1] * (weight.ndim - 2)
        down, up = A.float().cpu(), contribution.strength * B.float().cpu()
        factors = {"lora_down": down.reshape(*down.shape, *ones), "lora_up": up.reshape(*up.shape, *ones)}
        adapters.append(Adapter(DENOISER, f"{block.path}.proj_out", "lora", factors, float(len(down))))
    changes = contribution.adapters.denoiser if contribution.adapters is not None else {}
    strength = contribution.adapters.strength if contribution.adapters is not None else 1.0
    for path, change in changes.items():
        if change.down is not None and change.up is not None:
            down, up = change.down.float().cpu(), strength * change.up.float().cpu()
            ones = [1] * (down.ndim - 2)
            factors = {"lora_down": down, "lora_up": up.reshape(*up.shape[:2], *ones)}
            adapters.append(Adapter(DENOISER, path, "lora", factors, float(len(down))))
        elif change.weight is not None:
            u, s, vt = torch.linalg.svd(strength * change.weight.double().cpu(), full_matrices=False)
            factors = {"lora_down": vt.float(), "lora_up": (u * s).float()}
            adapters.append(Adapter(DENOISER, path, "lora", factors, float(len(s))))
    return tuple(adapters)


def word_vectors(contribution: Contribution, word: str) -> WordVectors:
    """The tokens that stand for a concept in prompts, under another word: (v, d_token) of each encoder."""
    components = ("text_encoder", "text_encoder_2")[: len(contribution.embeddings)]
    rows = zip(components, contribution.embeddings, strict=True)
    return WordVectors(word, {name: own.float().cpu().reshape(-1, own.shape[-1]) for name, own in rows})
