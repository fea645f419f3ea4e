"""Bases of true shapes whose tensors need have no numbers, and the bytes of what operations give."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from perfusion_registry.base import Base
from perfusion_registry.base.architectures.sdxl import StableDiffusionXLBase
from perfusion_registry.base.architectures.stable_diffusion import StableDiffusionBase
from perfusion_registry.base.upcasting import UpcastLinear, is_large

LENGTH = 77
"""Positions of a prompt."""


class Alive(TorchDispatchMode):
    """A context that counts the bytes of what operations give, while it is held. peak: at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._see(leaf.untyped_storage())
        return out

    def _see(self, storage: Any) -> None:
        key, size = id(storage), storage.nbytes()
        known = self._known.get(key)
        if known is not None and known() is storage:
            return

        def gone(_: object) -> None:
            self.now -= size
            self._known.pop(key, None)

        self._known[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)


@dataclass(frozen=True)
class Shape:
    """unet, vae: configurations. texts: of the text encoders."""

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    texts: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, folder: Path) -> Shape:
        """That of a diffusers folder's configurations."""

        def told(part: str) -> dict[str, Any]:
            found: dict[str, Any] = json.loads((folder / part / "config.json").read_text("utf-8"))
            return {key: value for key, value in found.items() if not key.startswith("_")}

        parts = [part for part in ("text_encoder", "text_encoder_2") if (folder / part).exists()]
        return cls(told("unet"), told("vae"), tuple(told(part) for part in parts))

    @property
    def side(self) -> int:
        """Of the latents that it is made for."""
        return int(self.unet["sample_size"])

    def made(self, dtype: torch.dtype) -> Base:
        """A base of this shape without files, in the mode that is on: with numbers, or without."""
        with _default(dtype):
            unet, vae = UNet2DConditionModel(**self.unet), AutoencoderKL(**self.vae)
            own = self._encoders()
        with _default(torch.float32):
            full = own if dtype == torch.float32 else self._encoders()
        for one, ours in zip(own, full, strict=True):
            if one is not ours and is_large(one):
                _share(one, ours)
        for module in (unet, vae, *own, *full):
            module.eval().requires_grad_(False)
        scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
        ends = SimpleNamespace(pad_token_id=0, eos_token_id=1, model_max_length=LENGTH)
        names = ["text_encoder", "text_encoder_2"][: len(own)]
        parts = {"unet": unet, "vae": vae, **dict(zip(names, own, strict=True))}
        pipe = SimpleNamespace(
            **parts, scheduler=scheduler, tokenizer=ends, tokenizer_2=ends, vae_scale_factor=8
        )
        pipe.components = parts
        nothing: Any = None
        how = {"device": torch.device("cpu"), "dtype": dtype, "compute_dtype": dtype, "description": nothing}
        if len(own) == 2:
            return StableDiffusionXLBase(pipe=pipe, text_encoders=(full[0], full[1]), **how)
        return StableDiffusionBase(pipe=pipe, text_encoder=full[0], **how)

    def _encoders(self) -> list[Any]:
        kinds = [CLIPTextModel, CLIPTextModelWithProjection]
        return [kind(CLIPTextConfig(**told)) for kind, told in zip(kinds, self.texts, strict=False)]


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _share(own: nn.Module, ours: nn.Module) -> None:
    """Give a text encoder in fp32 the 16-bit weights of the pipeline's linear layers, as `base.upcasting`
    does where its files have the pipeline's format; that copies, for which tensors need numbers."""
    for one, other in zip(own.modules(), ours.modules(), strict=True):
        if type(other) is nn.Linear:
            other.weight = one.weight
            other.__class__ = UpcastLinear
