"""Writing adapters and words as other programs read them: LoRAs by kohya's names, which web UIs, ComfyUI and
diffusers take alike, and textual inversions by diffusers' names, or SDXL's pair of them.

What is written says what it is in its metadata: `modelspec.*`, `ss_*`, and `perf.*` of one's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from perfusion_registry.adapters.adapter import DENOISER, Adapter, WordVectors
from perfusion_registry.adapters.guess import base_of_modules
from perfusion_registry.adapters.modules import Modules
from perfusion_registry.adapters.names import ModuleNames

if TYPE_CHECKING:
    from torch import Tensor

KINDS = {
    "Stable Diffusion 1": ("stable-diffusion-v1", "sd_v1"),
    "Stable Diffusion 2": ("stable-diffusion-v2-512", "sd_v2"),
    "SDXL": ("stable-diffusion-xl-v1-base", "sdxl_base_v1-0"),
}
"""Kinds of bases that other programs know, with what `modelspec.*` and `ss_*` call them."""
_CLIP = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}


def kohya_tensors(adapters: Iterable[Adapter], modules: Modules) -> dict[str, Tensor]:
    """Adapters by kohya's names for a base with these modules; of SDXL the denoiser's as SGM has them. Each
    says its alpha: what has none gets its rank."""
    import torch

    names, several = ModuleNames(modules), "text_encoder_2" in modules
    prefixes = {DENOISER: "unet", "text_encoder": "te1" if several else "te", "text_encoder_2": "te2"}
    tensors: dict[str, Tensor] = {}
    for adapter in adapters:
        flat = adapter.module.replace(".", "_")
        if several and adapter.component == DENOISER:
            flat = names.compvis(adapter.module) or flat
        place = f"lora_{prefixes[adapter.component]}_{flat}"
        for name, tensor in adapter.tensors.items():
            end = ".weight" if name.startswith("lora_") else ""
            tensors[f"{place}.{name}{end}"] = tensor.detach().cpu().clone().contiguous()
        rank = adapter.rank
        if rank is not None:
            tensors[f"{place}.alpha"] = torch.tensor(float(rank if adapter.alpha is None else adapter.alpha))
    return tensors


def embedding_tensors(words: WordVectors) -> dict[str, Tensor]:
    """A word as a textual inversion: one tensor called as the word, of several text encoders `clip_l` and
    `clip_g`; each (n, d_token)."""
    rows = {name: vectors.detach().cpu().contiguous() for name, vectors in words.vectors.items()}
    if len(rows) == 1:
        return {words.word or "emb_params": next(iter(rows.values()))}
    return {_CLIP[name]: vectors for name, vectors in rows.items()}


def metadata(
    kind: str, modules: Modules, *, title: str, base: str, word: str | None, licence: str | None
) -> dict[str, str]:
    """What other programs read of a file. kind: `lora` or `textual-inversion`. base: its name."""
    architecture, version = KINDS.get(base_of_modules(modules), (None, None))
    said = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{architecture}/{kind}" if architecture else None,
        "modelspec.implementation": "https://github.com/huggingface/diffusers",
        "modelspec.title": title,
        "modelspec.trigger_phrase": word,
        "modelspec.license": licence,
        "ss_base_model_version": version if kind == "lora" else None,
        "ss_sd_model_name": base,
        "ss_network_module": "networks.lora" if kind == "lora" else None,
        "format": "pt",
    }
    return {key: text for key, text in said.items() if text is not None}


def file_bytes(tensors: Mapping[str, Tensor], said: Mapping[str, str]) -> bytes:
    """A safetensors file of them: the same tensors and metadata are the same bytes, which they are not by the
    library, which has metadata in an arbitrary order."""
    from safetensors.torch import save

    data = bytes(save(dict(tensors)))
    length = int.from_bytes(data[:8], "little")
    header = {"__metadata__": dict(sorted(said.items())), **json.loads(data[8 : 8 + length])}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]
