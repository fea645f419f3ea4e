"""The tensors of a text encoder within one file of a whole base, by the names that transformers has for them.

CLIP-L lies there as transformers names it. OpenCLIP fuses the projections of its attention, and keeps the
projection of the whole text transposed. Importing this needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from io import BufferedReader
from typing import TYPE_CHECKING, Any

from perfusion_registry.base.layouts import TextEncoder
from perfusion_registry.base.weights import Halves, half_digest, is_learned, read_halves
from perfusion_registry.safetensors_header import TensorEntry, floats

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OUTSIDE = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_WITHIN = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_LAYER = re.compile(r"transformer\.resblocks\.(?P<layer>\d+)\.(?P<module>.+?)[._](?P<kind>weight|bias)")


@dataclass(frozen=True)
class Part:
    """A tensor as transformers has it, within one that a file has. shape: its own. skipped: rows of the
    file's that come before it. transposed: whether the file has it so."""

    entry: TensorEntry
    shape: tuple[int, ...]
    skipped: int = 0
    transposed: bool = False

    def halves(self, file: BufferedReader) -> Iterator[Halves]:
        """Its numbers rounded to fp16, in pieces (`read_halves`)."""
        if not self.transposed:
            row = (self.entry.end - self.entry.start) // max(1, *self.entry.shape[:1])
            start = self.entry.start + self.skipped * row
            end = self.entry.end if self.shape == self.entry.shape else start + self.shape[0] * row
            yield from read_halves(file, start, end, self.entry.dtype)
            return
        import numpy as np

        with np.errstate(over="ignore"):
            yield np.ascontiguousarray(self.read(file), "<f2").tobytes()

    def read(self, file: BufferedReader) -> NDArray[Any]:
        """Its numbers, in the format of the file."""
        size = self.entry.end - self.entry.start
        row = size // self.entry.shape[0]
        file.seek(self.entry.start + self.skipped * row)
        data = file.read(size if self.transposed else row * self.shape[0])
        numbers = floats(data, self.entry.dtype)
        return numbers.reshape(self.shape[::-1]).T if self.transposed else numbers.reshape(self.shape)


def text_tensors(
    tensors: Mapping[str, TensorEntry], encoder: TextEncoder, configuration: Mapping[str, Any]
) -> dict[str, Part]:
    """What transformers' text model of this configuration takes from a file's tensors, by its names, without
    `text_model.`. A layer that the model does not have is left out, as is the projection of the whole text
    where its class has none."""
    own = {
        name.removeprefix(encoder.prefix): entry
        for name, entry in tensors.items()
        if name.startswith(encoder.prefix) and is_learned(name, entry)
    }
    if not encoder.open_clip:
        return {name: Part(entry, entry.shape) for name, entry in own.items()}
    parts = {_OUTSIDE[name]: Part(entry, entry.shape) for name, entry in own.items() if name in _OUTSIDE}
    if "text_projection" in own and configuration["architectures"] == ["CLIPTextModelWithProjection"]:
        entry = own["text_projection"]
        parts["text_projection.weight"] = Part(entry, entry.shape[::-1], transposed=True)
    for name, entry in own.items():
        within = _LAYER.fullmatch(name)
        if within and int(within["layer"]) < configuration["num_hidden_layers"]:
            parts |= _layer(f"encoder.layers.{within['layer']}", within["module"], within["kind"], entry)
    return parts


def _layer(path: str, module: str, kind: str, entry: TensorEntry) -> dict[str, Part]:
    if module in _WITHIN:
        return {f"{path}.{_WITHIN[module]}.{kind}": Part(entry, entry.shape)}
    if module != "attn.in_proj":
        return {}
    width, *rest = entry.shape
    third = Part(entry, (width // 3, *rest))
    return {
        f"{path}.self_attn.{side}_proj.{kind}": replace(third, skipped=k * (width // 3))
        for k, side in enumerate("qkv")
    }


def text_tensors_digest(file: BufferedReader, parts: Mapping[str, Part]) -> str:
    """The digest of a text encoder, the very one that a file of it alone has (`half_precision_digest`)."""
    return half_digest((name, parts[name].shape, parts[name].halves(file)) for name in sorted(parts))
