"""A whole base in one safetensors file, seen as the folder that diffusers would save of it; without torch.

Which layout it has is told by the names and shapes of its tensors. Its configurations are those that ship
with perf for that layout, so nothing is fetched.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from perfusion_registry.base import layouts
from perfusion_registry.base.architectures.cross_attention import cross_attention_shapes
from perfusion_registry.base.card import BaseCard
from perfusion_registry.base.digest import remembered
from perfusion_registry.base.files import BaseFiles
from perfusion_registry.base.kinds import SUITABLE, Kind, kind_of_file
from perfusion_registry.base.layouts import AUTOENCODER, UNET, Layout, TextEncoder
from perfusion_registry.base.prediction import (
    Asked,
    Prediction,
    native_sides,
    scheduler_of,
    tell_prediction,
)
from perfusion_registry.base.text_tensors import Part, text_tensors, text_tensors_digest
from perfusion_registry.base.weights import FLOATS, FP8, is_read
from perfusion_registry.errors import PerfError
from perfusion_registry.safetensors_header import Header, HeaderError, TensorEntry, read_header

_SCALES = ("scaled_fp8", ".scale_weight", ".weight_scale", ".comfy_quant", ".weight_scale_inv")
"""What ComfyUI and others have beside quantised weights, by the ends of names."""
_WHOLE = "name a file that has it too, or a folder of the whole pipeline"
_ATTENTION = re.compile(
    r"(?:(?P<side>input|output)_blocks\.(?P<block>\d+)|middle_block)\.1\.(?P<rest>transformer_blocks\.\d+\.attn2\..+)"
)


@dataclass(frozen=True, kw_only=True)
class CheckpointFiles(BaseFiles):
    """A file, where an architecture looks for a folder.

    folder: of the layout's configurations. file: of all weights. prediction: what its denoiser predicts.
    """

    file: Path
    layout: Layout
    header: Header
    prediction: Prediction

    @classmethod
    def open(cls, file: Path, asked: Asked) -> CheckpointFiles:
        """Tell what a file is. Raises PerfError, with what it is, for one that holds no base."""
        if file.suffix.lower() != ".safetensors":
            raise _refused(file, kind_of_file(file))
        if file.suffix != ".safetensors":
            raise PerfError(
                f"what loads it knows a safetensors file by `.safetensors`, and not by `{file.suffix}`",
                where=str(file),
                hint=f"rename it to {file.stem}.safetensors",
            )
        try:
            header = read_header(file)
        except (OSError, HeaderError):
            raise _refused(file, kind_of_file(file)) from None
        layout = _layout(file, header)
        prediction = tell_prediction(file, header, asked, by_statistic=layout.is_stable_diffusion_2)
        files = cls(folder=layout.folder, file=file, layout=layout, header=header, prediction=prediction)
        files._check()
        return files

    @property
    def card(self) -> BaseCard:
        """None."""
        return BaseCard()

    def place(self, component: str) -> str:
        """The file."""
        return str(self.file)

    def configuration(self, component: str) -> Mapping[str, Any]:
        """That of the layout; of a UNet with the channels that it takes and the size that it is for."""
        configuration = dict(super().configuration(component))  # without the layers that are left out
        if component == "unet":
            configuration["in_channels"] = self.header.tensors[f"{UNET}input_blocks.0.0.weight"].shape[1]
            sides = native_sides(self.header)
            if sides is not None:
                configuration["sample_size"] = [side // 8 for side in sides]
            elif self.layout.is_stable_diffusion_2 and self.prediction.kind == "v_prediction":
                configuration["sample_size"] = 96  # of both kinds of SD 2, that for 768 pixels
        return configuration

    @property
    def scheduler(self) -> Mapping[str, Any]:
        """The layout's, for what is predicted."""
        return scheduler_of(self.prediction, dict(super().scheduler))

    def weights(self, model: str) -> tuple[Path, ...]:
        """The file."""
        return (self.file,)

    def tensors(self, model: str) -> Mapping[str, TensorEntry]:
        """Of the UNet its cross-attention, by diffusers' names; of another model all, by the file's."""
        if model == "unet":
            return self._attention
        return self.header.tensors

    def text_parts(self, component: str) -> dict[str, Part]:
        """The tensors of a text encoder, by transformers' names."""
        encoder, own = self.layout.encoder(component), super().configuration(component)
        parts = text_tensors(self.header.tensors, encoder, own)
        layers = own["num_hidden_layers"] if self.left_out.get(component) else None
        return {name: part for name, part in parts.items() if is_read(name, layers)}

    def text_digests(self, component: str) -> list[str]:
        """One, as a folder with the text encoder in one file has."""

        def compute(file: Path) -> str:
            with file.open("rb") as opened:
                return text_tensors_digest(opened, self.text_parts(component))

        fewer = self.left_out.get(component)
        kind = f"half {component}" + (f" without {fewer}" if fewer else "")
        return [remembered(kind, self.file, compute), *self.text_marks]

    @property
    def text_digest(self) -> str:
        """The hex sha256 of what decides what a caption is encoded to."""
        total = hashlib.sha256(self.layout.vocabulary.read_bytes())
        for encoder in self.layout.encoders:
            digests = " ".join(self.text_digests(encoder.component))
            total.update(f"{encoder.padding} {digests}\n".encode())
        return total.hexdigest()

    @property
    def fp8(self) -> str | None:
        """A sentence where the file has fewer digits than its base is computed with."""
        formats = sorted({entry.dtype for entry in self.header.tensors.values()} & {*FP8})
        if not formats:
            return None
        return (
            f"its weights are in {' and '.join(formats)}, and are computed with in the format of --dtype: "
            "what fp8 rounded away is gone"
        )

    @cached_property
    def _attention(self) -> dict[str, TensorEntry]:
        per_block = super().configuration("unet")["layers_per_block"] + 1
        shapes = {}
        for name, entry in self.header.tensors.items():
            place = _ATTENTION.fullmatch(name.removeprefix(UNET)) if name.startswith(UNET) else None
            if place is None:
                continue
            block, within = divmod(int(place["block"] or 0) - (place["side"] == "input"), per_block)
            path = {"input": "down_blocks.{}.attentions.{}", "output": "up_blocks.{}.attentions.{}"}
            where = path.get(place["side"] or "", "mid_block.attentions.0").format(block, within)
            shapes[f"{where}.{place['rest']}"] = entry
        return shapes

    def _check(self) -> None:
        """Raise PerfError where the file's models are not those of the layout's configurations."""
        called, tensors = self.layout.called, self.header.tensors
        own = _attention_layers(super().configuration("unet"))
        if set(cross_attention_shapes(self._attention)) != set(own):
            raise _refused(
                self.file,
                Kind(f"laid out like {called}, but its UNet has other layers of attention than {called} has"),
            )
        for encoder in self.layout.encoders:
            configuration = super().configuration(encoder.component)
            words, width = tensors[encoder.embeddings].shape
            if (words, width) != (configuration["vocab_size"], configuration["hidden_size"]):
                raise _refused(
                    self.file,
                    Kind(
                        f"laid out like {called}, but its {encoder.component} has {words} words of {width} "
                        f"numbers, and {called}'s has {configuration['vocab_size']} of "
                        f"{configuration['hidden_size']}"
                    ),
                )


def _attention_layers(config: Mapping[str, Any]) -> Iterator[tuple[str, int, int, int]]:
    """(path, K width, V width, d) of the cross-attention layers of a UNet of this configuration."""
    widths, d, layers = (
        config["block_out_channels"],
        config["cross_attention_dim"],
        config["layers_per_block"],
    )
    deep = config.get("transformer_layers_per_block", 1)
    deeps = [deep] * len(widths) if isinstance(deep, int) else list(deep)
    blocks = [("mid_block", widths[-1], 1, deeps[-1])]
    for i, kind in enumerate(config["down_block_types"]):
        blocks += [(f"down_blocks.{i}", widths[i], layers, deeps[i])] if "CrossAttn" in kind else []
    for i, kind in enumerate(config["up_block_types"]):
        here = (f"up_blocks.{i}", widths[-1 - i], layers + 1, deeps[-1 - i])
        blocks += [here] if "CrossAttn" in kind else []
    for block, width, count, depth in blocks:
        for j in range(count):
            for k in range(depth):
                yield f"{block}.attentions.{j}.transformer_blocks.{k}.attn2", width, width, d


def _layout(file: Path, header: Header) -> Layout:
    tensors = header.tensors
    fits = [
        layout
        for layout in layouts.LAYOUTS
        if all(encoder.embeddings in tensors for encoder in layout.encoders)
    ]
    if f"{UNET}input_blocks.0.0.weight" not in tensors:
        raise _refused(file, kind_of_file(file))
    if not fits:
        raise _refused(file, _without_text(tensors))
    layout = fits[-1]
    kind = _not_usable(tensors, layout.encoders)
    if kind is not None:
        raise _refused(file, kind)
    return layout


def _without_text(tensors: Mapping[str, TensorEntry]) -> Kind:
    if "conditioner.embedders.0.model.token_embedding.weight" in tensors:
        return Kind("SDXL's refiner, which only finishes what another base has drawn")
    if any(name.startswith(("conditioner.", "cond_stage_model.")) for name in tensors):
        return Kind("a model whose text encoders perf does not know")
    return Kind("a UNet without its text encoders", _WHOLE)


def _not_usable(tensors: Mapping[str, TensorEntry], encoders: tuple[TextEncoder, ...]) -> Kind | None:
    """What a file of a known layout is that cannot be a base all the same."""
    if "edm_mean" in tensors or "edm_vpred.sigma_max" in tensors:
        return Kind("a model with EDM's noise schedule, such as Playground 2.5, which perf cannot train with")
    if len(encoders) == 1 and any(name.startswith(f"{UNET}label_emb.") for name in tensors):
        return Kind("a model that is called with a picture or a level of noise beside the prompt")
    if f"{AUTOENCODER}decoder.conv_in.weight" not in tensors:
        return Kind("a model without its autoencoder", _WHOLE)
    read = (UNET, AUTOENCODER, *(encoder.prefix for encoder in encoders))
    weights = {
        name: entry
        for name, entry in tensors.items()
        if name.startswith(read) and name.endswith(("weight", "bias", "embedding", "projection"))
    }
    if (quantised := kind_if_quantised(tensors, weights)) is not None:
        return quantised
    for name, entry in weights.items():
        if not all(entry.shape or (0,)):
            return Kind(f"a model without any numbers in its `{name}`")
    ranks = {f"{UNET}input_blocks.0.0.weight": 4, **{encoder.embeddings: 2 for encoder in encoders}}
    for name, rank in ranks.items():
        if len(tensors[name].shape) != rank:
            return Kind(f"a model whose `{name}` has {len(tensors[name].shape)} dimensions instead of {rank}")
    return None


def kind_if_quantised(tensors: Mapping[str, TensorEntry], weights: Mapping[str, TensorEntry]) -> Kind | None:
    """What a file is whose weights diffusers would take for other numbers than they stand for; None for
    floats. tensors: all of the file. weights: those of them that are read."""
    if any(name.endswith(_SCALES) for name in tensors):
        return Kind(
            "a model whose weights are scaled beside their numbers (scaled fp8, or another quantisation), "
            "which diffusers does not read",
            "take the fp16 or bf16 file, or one in plain fp8",
        )
    for entry in weights.values():
        if entry.dtype not in (*FLOATS, *FP8):
            return Kind(f"a model whose weights are in {entry.dtype}", "convert it to fp16 or bf16 first")
    return None


def _refused(file: Path, kind: Kind) -> PerfError:
    return PerfError(f"this is {kind.what}", where=str(file), hint=kind.hint or SUITABLE)
