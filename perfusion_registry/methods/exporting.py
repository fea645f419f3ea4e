"""A concept as plain adapters and a word, for programs that know no gates: what its method brings, ungated.

Eq. 2 for one concept is linear in an encoding e, so it is a rank-one change of every K and V projection:
    W e + (o - W i) (v . e) / (i . v)     down = v^T / (i . v) (1, d), up = o - W i (m', 1)
a residual B A is a LoRA of the blocks' output projections, applied everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from perfusion_registry.adapters.adapter import COMPONENTS, DENOISER, Adapter, Component, WordVectors
from perfusion_registry.base.changes import module_at

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.base import Base, Change, Changes
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
    brought = contribution.adapters
    if brought is not None:
        parts: list[tuple[Component, Changes, float]] = [(DENOISER, brought.denoiser, brought.strength)]
        for component in COMPONENTS[1:]:
            parts.append((component, brought.text.get(component, {}), brought.text_strength))
        for component, changes, strength in parts:
            for path, change in changes.items():
                factors = {} if _is_table(base, component, path) else _factored(change, strength)
                if factors:
                    rank = float(len(factors["lora_down"]))
                    adapters.append(Adapter(component, path, "lora", factors, rank))
    return tuple(adapters)


def left_out(base: Base, contribution: Contribution) -> tuple[str, ...]:
    """What a concept changes that a LoRA has no place for: biases, norms, tables of embeddings."""
    brought = contribution.adapters
    parts = {} if brought is None else {DENOISER: brought.denoiser, **brought.text}
    changes = [change for part in parts.values() for change in part.values()]
    biases = any(change.bias is not None for change in changes)
    norms = any(change.weight is not None and change.weight.ndim < 2 for change in changes)
    tables = any(_is_table(base, component, path) for component, part in parts.items() for path in part)
    kinds = {"biases": biases, "norms": norms, "embeddings": tables}
    return tuple(kind for kind, there in kinds.items() if there)


def _is_table(base: Base, component: str, path: str) -> bool:
    """Whether a module is a table of embeddings."""
    model = base.denoiser if component == DENOISER else base.text_models[component]
    return isinstance(module_at(model, path), torch.nn.Embedding)


def _factored(change: Change, strength: float) -> dict[str, Tensor]:
    """A change of a weight as a LoRA, of full rank where it is no product; nothing of a vector."""
    if change.down is not None and change.up is not None:
        down, up = change.down.float().cpu(), strength * change.up.float().cpu()
        ones = [1] * (down.ndim - 2)
        return {"lora_down": down, "lora_up": up.reshape(*up.shape[:2], *ones)}
    if change.weight is None or change.weight.ndim < 2:
        return {}
    weight = strength * change.weight.double().cpu()
    u, s, vt = torch.linalg.svd(weight.flatten(1), full_matrices=False)
    down, up = vt.float(), (u * s).float()
    ones = [1] * (weight.ndim - 2)
    return {"lora_down": down.reshape(-1, *weight.shape[1:]), "lora_up": up.reshape(*up.shape, *ones)}


def word_vectors(contribution: Contribution, word: str) -> WordVectors:
    """The tokens that stand for a concept in prompts, under another word: (v, d_token) of each encoder."""
    components = ("text_encoder", "text_encoder_2")[: len(contribution.embeddings)]
    rows = zip(components, contribution.embeddings, strict=True)
    return WordVectors(word, {name: own.float().cpu().reshape(-1, own.shape[-1]) for name, own in rows})
