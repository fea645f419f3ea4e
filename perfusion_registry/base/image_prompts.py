"""IP-Adapters: pictures that a denoiser reads beside its prompt, by keys and values of their own.

They stand in attention processors of the denoiser and in a projection before it, so they are put on for a
batch, in this thread's turn, and taken off again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from safetensors.torch import load_file
from torch import Tensor, nn

from perfusion_registry.base.interface import Base
from perfusion_registry.base.offload_hooks import CPU
from perfusion_registry.base.options import ControlPart
from perfusion_registry.base.pretrained import BROKEN, load_pretrained, move, quiet
from perfusion_registry.errors import PerfError
from perfusion_registry.reporter import Reporter, Silent

_loaded: WeakKeyDictionary[Base, dict[tuple[str, ...], ImagePrompts]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class _Worn:
    """What of a UNet is another with an IP-Adapter."""

    processors: dict[str, Any]
    projection: nn.Module | None
    kind: str | None

    @classmethod
    def of(cls, unet: Any) -> _Worn:
        return cls(dict(unet.attn_processors), unet.encoder_hid_proj, unet.config.encoder_hid_dim_type)

    def put(self, unet: Any) -> None:
        unet.set_attn_processor(dict(self.processors))
        unet.encoder_hid_proj = self.projection
        unet.config.encoder_hid_dim_type = self.kind


@dataclass(frozen=True, eq=False)
class ImagePrompts:
    """IP-Adapters of one base, together. components: what a pipeline has of them beside the base's own."""

    components: Mapping[str, Any]
    _unet: Any
    _worn: _Worn

    @contextmanager
    def attached(self, strengths: Sequence[float]) -> Iterator[None]:
        """A context in which the denoiser reads a picture for each of them, with these strengths; to be
        entered in this thread's turn. On leaving its own processors are back, whatever happened inside."""
        before = _Worn.of(self._unet)
        try:
            self._worn.put(self._unet)
            for processor in self._worn.processors.values():
                if hasattr(processor, "to_k_ip"):
                    processor.scale = list(strengths)
            yield
        finally:
            before.put(self._unet)


def image_prompts(base: Base, parts: Sequence[ControlPart], reporter: Reporter | None = None) -> ImagePrompts:
    """IP-Adapters and their image encoder, in the format and on the device of the base; read when a picture
    first asks for them, and kept as long as the base. parts: with one image encoder.

    Raises PerfError for files that lack weights, and where the device has too little memory.
    """
    there = _loaded.setdefault(base, {})
    key = tuple(part.digest for part in parts)
    if key not in there:
        with (reporter or Silent()).stage(f"Loading {', '.join(part.part.said for part in parts)}"):
            there[key] = _load(base, parts)
    return there[key]


def _load(base: Base, parts: Sequence[ControlPart]) -> ImagePrompts:
    with quiet():
        from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

        encoder_part = parts[0].encoder
        assert encoder_part is not None
        encoder: Any = load_pretrained(
            CLIPVisionModelWithProjection, encoder_part.place, f"the image encoder {encoder_part.said!r}"
        )
        side = encoder.config.image_size
        extractor = CLIPImageProcessor(size=side, crop_size=side)
        encoder.to(base.dtype)
    move([encoder], base.device if base.offload is None else CPU)
    unet, tensors = base.denoiser, [_by_module(part) for part in parts]
    with base.exclusive():
        before = _Worn.of(unet)
        try:
            unet._load_ip_adapter_weights(tensors, low_cpu_mem_usage=False)  # type: ignore[operator]
            worn = _Worn.of(unet)
        except (KeyError, RuntimeError, ValueError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            said = ", ".join(part.part.said for part in parts)
            raise PerfError(
                f"the IP-Adapter {said} cannot be loaded: {lines[-1].strip()}", hint=BROKEN
            ) from error
        finally:
            before.put(unet)
    assert worn.projection is not None
    learned = [one for one in worn.processors.values() if isinstance(one, nn.Module)]
    for module in (worn.projection, *learned):
        module.eval().requires_grad_(False)
        if base.offload == "group":  # of layers that are hooked before it is there
            module.to(base.device)
    return ImagePrompts({"image_encoder": encoder, "feature_extractor": extractor}, unet, worn)


def _by_module(part: ControlPart) -> dict[str, dict[str, Tensor]]:
    """The tensors of a file as diffusers takes them."""
    told: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in load_file(part.part.place).items():
        module, _, rest = name.partition(".")
        if module in told:
            told[module][rest] = tensor
    return told
