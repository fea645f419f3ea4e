"""The controls that `[base]` of a project names: found, told by their headers, and held against the base.

What does not fit is refused here, with its place in the manifest, before any weights are read. Importing this
needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from perfusion_registry.amounts import count
from perfusion_registry.base.architectures.cross_attention import cross_attention_shapes
from perfusion_registry.base.control_kinds import CONTROL_KINDS, UNION_MODES, ControlKind, union_mode
from perfusion_registry.base.control_shapes import AdapterShape, PromptShape, Shape
from perfusion_registry.base.files import BaseFiles
from perfusion_registry.base.options import ControlPart, SidePart
from perfusion_registry.base.side_files import SideFinder, json_of
from perfusion_registry.base.weights import FLOATS, weight_files, weight_variants
from perfusion_registry.errors import PerfError

AnyShape = Shape | AdapterShape | PromptShape

_CLASSES: Mapping[str, ControlKind] = {
    "ControlNetModel": "controlnet",
    "ControlNetUnionModel": "union",
    "T2IAdapter": "adapter",
}
_UNION = "task_embedding"
_OTHER = re.compile(r"^lllite_|(^|\.)control_add_embedding\.|^(adapter\.)?body\.|^(image_proj|ip_adapter)\.")
_MODELS = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "SDXL"}
_SAME_KIND = "take one that was made for this base's kind"


@dataclass(frozen=True)
class ControlFinder:
    """Finds controls for one base. base: its name. files: its own."""

    find: SideFinder
    base: str
    files: BaseFiles

    def control(self, name: str, named: str) -> ControlPart:
        """The one that is called so, in a folder or one file."""
        place = self.find.place(named, f"controls.{name}", "diffusion_pytorch_model.safetensors")
        looked = _Control(self, name, place)
        kind, shape, paths = looked.in_file() if place.is_file() else looked.in_folder()
        part = ControlPart(name, self.find.part("control", named, place, paths), kind)
        if isinstance(shape, PromptShape):
            looked.check_prompt(shape)
            return replace(part, encoder=looked.encoder(shape, named))
        if isinstance(shape, AdapterShape):
            looked.check_adapter(shape)
            return replace(part, grey=shape.picture == 1, multiple=shape.multiple)
        looked.check_network(kind, shape)
        return part if kind == "controlnet" else replace(part, mode=union_mode(name))


@dataclass(frozen=True)
class _Control:
    """One control. name: as the manifest calls it. place: its folder or file."""

    finder: ControlFinder
    name: str
    place: Path

    def in_folder(self) -> tuple[ControlKind, AnyShape, list[Path]]:
        """What a folder that diffusers wrote has."""
        place, config = self.place, json_of(self.place / "config.json")
        named = str(config.get("_class_name"))
        kind = _CLASSES.get(named)
        if kind is None:
            if re.search("ControlNet|Adapter", named):
                raise self._refused(
                    f"{self._called} is a {named}, and of diffusers' controls perf draws with {_known()}"
                )
            raise self._no_control()
        variants = weight_variants(place)
        if not variants:
            raise self.finder.find.pickled(self._key, CONTROL_KINDS[kind].called, place)
        try:
            shape: AnyShape = AdapterShape.of(config) if kind == "adapter" else Shape.of(config)
            kinds = int(config.get("num_control_type", 6))
        except (LookupError, TypeError, ValueError):
            raise self._refused(
                f"the configuration of {place.name} does not say how large it is", "fetch it again"
            ) from None
        if kind == "union":
            self._check_mode(kinds)
        return kind, shape, [*weight_files(place, variants[0]), place / "config.json"]

    def in_file(self) -> tuple[ControlKind, AnyShape, list[Path]]:
        """What a safetensors file has."""
        tensors = self.finder.find.header(self._key, self.place, "a control").tensors
        read = (kind.of_tensors(tensors) for kind in (Shape, AdapterShape, PromptShape))
        shape: AnyShape | None = next((one for one in read if one is not None), None)
        if shape is None:
            if any(_OTHER.search(name) for name in tensors):
                raise self._refused(
                    f"{self._called} is a control of another kind or layout than those of {_known()}",
                    "take it as a folder of diffusers, whose config.json says what it is",
                )
            raise self._no_control()
        union = tensors.get(_UNION)
        if formats := {entry.dtype for entry in tensors.values()} - {*FLOATS}:
            raise self._refused(
                f"the weights of {self.place.name} are in {', '.join(sorted(formats))}",
                "take it in fp16 or bf16",
            )
        kind: ControlKind = "controlnet"
        if isinstance(shape, AdapterShape):
            kind = "adapter"
        elif isinstance(shape, PromptShape):
            kind = "ip-adapter"
        elif union is not None:
            self._check_mode(union.shape[0])
            kind = "union"
        return kind, shape, [self.place]

    def check_network(self, kind: ControlKind, shape: Shape) -> None:
        """Refuse a ControlNet of another kind of base, with both names."""
        files, base = self.finder.files, self.finder.base
        own = self._own_shape()
        latents = int(files.configuration("vae").get("latent_channels", 4))
        layers = cross_attention_shapes(files.tensors("unet"))
        first_half = sum(path.startswith(("down_blocks.", "mid_block.")) for path, *_ in layers)
        if kind == "union" and files.configuration("unet").get("addition_embed_type") != "text_time":
            raise self._refused(f"{self._called} is a ControlNet-Union, which is for SDXL, and {base} is not")
        if shape.picture != 3:
            raise self._refused(
                f"{self._called} is controlled by pictures of {shape.picture} channels, and perf gives it "
                "colours"
            )
        if shape.text is not None and shape.text != own.text:
            what = f"text of {_numbers(shape.text)}, and the base {base} reads {_numbers(own.text)}"
        elif shape.outputs != own.outputs:
            what = f"another UNet than that of the base {base}: their blocks have other widths"
        elif shape.latents != latents:
            what = f"latents of {shape.latents} channels, and those of the base {base} have {latents}"
        elif shape.layers not in (None, first_half):  # a file has no configuration but the base's
            said = count(shape.layers, "cross-attention layer")
            what = f"{said}, and the base {base} has {first_half} there"
        else:
            return
        raise self._refused(f"{self._called} is {CONTROL_KINDS[kind].called} for {what}")

    def check_adapter(self, shape: AdapterShape) -> None:
        """The same of a T2I-Adapter."""
        config, base = self.finder.files.configuration("unet"), self.finder.base
        widths = tuple(config.get("block_out_channels", ()))
        xl = str(next(iter(config.get("down_block_types", ())), "")) == "DownBlock2D"
        if shape.xl != xl:
            one, other = ("SDXL", "is not") if shape.xl else ("Stable Diffusion 1 or 2", "is SDXL")
            raise self._refused(f"{self._called} is a T2I-Adapter for {one}, and the base {base} {other}")
        if shape.features[: len(widths)] != widths:
            raise self._refused(
                f"{self._called} is a T2I-Adapter for another UNet than that of the base {base}: "
                "their blocks have other widths"
            )
        if shape.picture not in (1, 3):
            raise self._refused(
                f"{self._called} is controlled by pictures of {shape.picture} channels, and perf gives it "
                "greys or colours"
            )

    def check_prompt(self, shape: PromptShape) -> None:
        """The same of an IP-Adapter."""
        layers = cross_attention_shapes(self.finder.files.tensors("unet"))
        own, base = sorted((keys, width) for _, keys, _, width in layers), self.finder.base
        texts = {layer[1] for layer in shape.layers}
        if texts != {own[0][1]}:
            what = f"text of {_numbers(min(texts))}, and the base {base} reads {_numbers(own[0][1])}"
        elif sorted(shape.layers) != own:
            what = f"another UNet than that of the base {base}: their layers have other widths"
        else:
            return
        raise self._refused(f"{self._called} is an IP-Adapter for {what}")

    def encoder(self, shape: PromptShape, named: str) -> SidePart:
        """The image encoder of an IP-Adapter: the folder `image_encoder` beside it, where diffusers looks.

        named: the IP-Adapter, as it is written.
        """
        place = self.place.parent / "image_encoder"
        config = json_of(place / "config.json")
        weights = weight_files(place)
        if config.get("model_type") != "clip_vision_model" or not weights:
            raise self._refused(
                f"{self._called} is an IP-Adapter, and there is no image encoder in {place}",
                "put the folder of its CLIP vision model there, as its authors and diffusers have it",
            )
        width = config.get("hidden_size" if shape.whole else "projection_dim")
        if width != shape.encoder:
            raise self._refused(
                f"{self._called} is for an image encoder of {shape.encoder} numbers, and that has {width}",
                "take the image encoder that it was made for",
            )
        said = str(PurePosixPath(named.replace("\\", "/")).parent / "image_encoder")
        return self.finder.find.part("control", said, place, [*weights, place / "config.json"])

    def _own_shape(self) -> Shape:
        config: Mapping[str, Any] = self.finder.files.configuration("unet")
        try:
            return Shape.of(config)
        except (LookupError, TypeError, ValueError):
            raise self._refused(
                f"no control can be told to fit {self.finder.base}, whose UNet has blocks of its own kind",
                "take the line out",
            ) from None

    def _check_mode(self, kinds: int) -> None:
        """Refuse a name that does not say which picture a ControlNet-Union gets. kinds: that it knows."""
        mode = union_mode(self.name)
        if mode is None or mode >= kinds:
            known = ", ".join(name for name, number in UNION_MODES.items() if number < kinds)
            raise self._refused(
                f"{self._called} is a ControlNet-Union, which reads pictures of {kinds} kinds, and "
                f"`{self.name}` is called after none of them",
                f"call it {known}, or two of one kind canny and canny-2",
            )

    @property
    def _called(self) -> str:
        return f"the control {self.place.name}"

    @property
    def _key(self) -> str:
        return f"controls.{self.name}"

    def _refused(self, what: str, hint: str = _SAME_KIND) -> PerfError:
        return PerfError(what, where=self.finder.find.said.at(self._key), hint=hint)

    def _no_control(self) -> PerfError:
        return self.finder.find.refused(
            self._key, self.place, "a control", "name the folder or the safetensors file of a ControlNet"
        )


def _known() -> str:
    *most, last = (kind.called for kind in CONTROL_KINDS.values())
    return f"{', '.join(most)} and {last}"


def _numbers(width: int | None) -> str:
    model = _MODELS.get(width or 0)
    return f"{width} numbers a token" + (f" ({model})" if model else "")
